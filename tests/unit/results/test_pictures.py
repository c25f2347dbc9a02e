"""The pictures of one run and of a partition."""

import matplotlib.image
import numpy as np
import pytest

import results
from results import figures
from tests.unit.results.writing import add_rounds, write_run


def test_figure_is_a_readable_png(store, tmp_path):
    write_run(store)
    add_rounds(store, range(3), 0.5)
    figure = figures.accuracy_and_bpp(results.load(tmp_path))
    path = figures.save(figure, tmp_path / "plots" / "figure.png")
    height, width, _ = matplotlib.image.imread(path).shape
    assert width > height > 400
    accuracy, bpp = figure.axes
    assert accuracy.lines[0].get_ydata().tolist() == [0.5] * 3
    assert bpp.lines[0].get_xdata().tolist() == [1, 2]  # without the head's round


@pytest.mark.parametrize(("clients", "classes"), [(10, 10), (5000, 101)])
def test_the_picture_of_a_partition_is_a_readable_png(tmp_path, clients, classes):
    counts = np.random.default_rng(0).integers(0, 9, (clients, classes))
    names = [f"class {index}" for index in range(classes)]
    path = figures.save(figures.label_counts(counts, names, "some split"), tmp_path / "partition.png")
    height, width = matplotlib.image.imread(path).shape[:2]
    assert width == 9 * 150
    assert 400 < height < 1200
