"""Figures of groups of runs: what is drawn where, and that a method keeps its colour."""

import subprocess
import sys

import pandas as pd
import pytest

from fedsim.methods import METHODS
from results import Results, figures, tables


@pytest.fixture(scope="module")
def loaded():
    """Two methods on two datasets, two seeds each; one run more that is not finished."""
    runs, rounds, clients = [], [], []
    for method, base in (("deltamask", 0.5), ("fedavg", 0.6)):
        for dataset in ("digits", "other"):
            for seed in (0, 1):
                name = f"{method}-{dataset}-{seed}"
                runs.append({"run_id": name, "status": "finished", "method": method, "dataset": dataset, "seed": seed})
                runs[-1] |= {"final_accuracy": base + 0.1 * seed, "uplink_bytes": 300, "downlink_bytes": 900}
                for index in range(3):
                    row = {"run_id": name, "round": index, "accuracy": base + 0.1 * seed, "uplink_bpp": 0.1}
                    rounds.append(row | {"uplink_bytes": 100, "downlink_bytes": 300})
                    clients += [{"run_id": name, "round": index, "client": k, "payload_bytes": 50} for k in (0, 1)]
    runs.append(runs[-1] | {"run_id": "unfinished", "status": "failed", "seed": 2, "final_accuracy": 0.0})
    return Results(pd.DataFrame(runs), pd.DataFrame(rounds), pd.DataFrame(clients).assign(samples=7))


def test_accuracy_against_bytes_has_a_panel_a_dataset_and_a_point_a_method(loaded):
    figure = figures.accuracy_against_bytes(loaded.runs, direction="both")
    assert [axes.get_title() for axes in figure.axes] == ["digits", "other"]
    points = [axes.containers[0].lines[0].get_xydata().tolist() for axes in figure.axes]
    assert points == [[[1200.0, pytest.approx(0.55)]]] * 2
    assert figure.legends[0].get_texts()[0].get_text() == "deltamask"


@pytest.mark.parametrize(
    ("arguments", "x"),
    [({}, [0, 1, 2]), ({"x": "both"}, [400, 800, 1200]), ({"y": "uplink_bpp", "x": "uplink"}, [200, 300])],
)
def test_lines_are_means_over_seeds(loaded, arguments, x):
    figure = figures.over_rounds(loaded, **arguments)
    line = figure.axes[1].lines[1]
    assert line.get_xdata().tolist() == x
    if "y" not in arguments:
        assert line.get_ydata().tolist() == pytest.approx([0.65] * 3)
        band = figure.axes[1].collections[1].get_paths()[0].get_extents()
        assert band.height == pytest.approx(2 * 0.1 / 2**0.5)


def test_client_distributions_have_a_box_a_group(loaded):
    payloads, samples = figures.client_distributions(loaded).axes
    names = [label.get_text() for label in payloads.get_yticklabels()]
    assert names == ["deltamask, digits", "deltamask, other", "fedavg, digits", "fedavg, other"]
    assert len(payloads.patches) == len(samples.patches) == 4


@pytest.mark.parametrize("name", ["a$b", "$\\frac{", "x_$y$_z"])
def test_names_are_drawn_as_they_are(loaded, tmp_path, name):
    runs = loaded.runs.assign(method=name, dataset=name)
    runs["participation"] = [0.1 * index for index in range(len(runs))]
    renamed = Results(runs, loaded.rounds, loaded.clients)
    for draw in (figures.over_rounds, figures.client_distributions, figures.accuracy_and_bpp):
        figures.save(draw(renamed), tmp_path / "figure.png")
    figures.save(figures.accuracy_against_bytes(runs), tmp_path / "figure.png")


def test_settings_that_differ_a_little_are_groups_of_their_own(loaded):
    configs = [
        f'{{"method": {{"compressor": {{"share": {1e-5 * (1 + index)}}}}}}}' for index in range(len(loaded.runs))
    ]
    runs = loaded.runs.assign(method="top-k", dataset="digits", config=configs)
    table = tables.main(runs)
    assert len(table) == table[table.columns[0]].nunique() == 8
    assert len(figures.over_rounds(Results(runs, loaded.rounds, loaded.clients)).axes[0].lines) == 8


def test_every_registered_method_has_a_look_of_its_own():
    looks = [figures.style(method.name)[:3] for method in METHODS]
    assert len(set(looks)) == len(looks)
    assert figures.style("my.package:Method") == figures.style("my.package:Method")
    assert figures.style("deltamask", 1).color == figures.style("deltamask").color
    assert figures.style("deltamask", 1).marker != figures.style("deltamask").marker


def test_importing_results_imports_neither_figures_nor_pages():
    code = "import sys, results, results.tables; sys.exit(bool({'matplotlib', 'jinja2'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_groups_need_not_be_methods(loaded):
    for by in (["dataset"], ["seed"], []):
        assert len(figures.accuracy_against_bytes(loaded.runs, by=by).axes) == (2 if "dataset" in by else 1)
        assert figures.over_rounds(loaded, by=by).axes[0].lines
        assert figures.client_distributions(loaded, by=by).axes
