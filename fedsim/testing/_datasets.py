"""The contract of datasets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from fedsim.data import DATASETS, Dataset, Decoder, Split, load_dataset
from fedsim.settings import DataSettings
from fedsim.testing._members import check_named, name_of, params_of

_READ = 64  # images of a split that are decoded


class DatasetContract:
    """The contract of every dataset.

    Both splits have samples with labels in range and images that can be read; they are the same whenever the dataset is
    made, and their fingerprints say what is in them; ``data.train_samples`` cuts them to fewer::

        class TestMyXrays(DatasetContract):
            dataset = "my_datasets:Xrays"
            settings = {"path": "tests/xrays"}

    Override the fixture :meth:`params` where files are to be written first.
    """

    #: The dataset: its name, ``package.module:Class`` or the class.
    dataset: ClassVar[str | type[Dataset] | None] = None
    #: Keys of its group.
    settings: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def params(self, tmp_path: Path) -> DataSettings:
        """The dataset's settings; ``tmp_path`` is where a subclass may write files."""
        settings: DataSettings = params_of(name_of(self.dataset, DATASETS, "dataset"), DATASETS, self.settings)
        return settings

    def test_it_has_a_name_and_a_line_for_listings(self, params: DataSettings) -> None:
        check_named(DATASETS.get(params.name))

    def test_labels_are_those_of_the_classes(self, params: DataSettings) -> None:
        dataset = load_dataset(params, seed=0)
        assert len(set(dataset.classes)) == len(dataset.classes) > 1
        assert all(isinstance(name, str) and name for name in dataset.classes)
        for split in (dataset.train, dataset.test):
            assert split.labels.dtype == np.int64
            assert split.labels.shape == (len(split),)
            assert len(split.images) == len(split) > 0
            assert 0 <= split.labels.min() <= split.labels.max() < len(dataset.classes)

    def test_images_can_be_read_in_any_order(self, params: DataSettings) -> None:
        dataset = load_dataset(params, seed=0)
        for split in (dataset.train, dataset.test):
            rows = np.arange(min(len(split), _READ))
            images = _pixels(split, rows)
            assert images.std() > 0
            assert np.array_equal(_pixels(split, rows[::-1]), images[::-1])
            assert np.array_equal(_pixels(split.take(rows[-1:]), np.array([0])), images[-1:])
            assert all(isinstance(split.images.label(int(row)), str) for row in rows)

    def test_it_is_the_same_whenever_it_is_made(self, params: DataSettings) -> None:
        first, second = load_dataset(params, seed=0), load_dataset(params, seed=0)
        assert list(first.classes) == list(second.classes)
        for one, other in ((first.train, second.train), (first.test, second.test)):
            assert one.images.fingerprint() == one.images.fingerprint() == other.images.fingerprint()
            assert np.array_equal(one.labels, other.labels)
            rows = np.arange(min(len(one), _READ))
            assert np.array_equal(_pixels(one, rows), _pixels(other, rows))
        assert first.train.images.fingerprint() != first.test.images.fingerprint()

    def test_fewer_samples_are_always_the_same_ones(self, params: DataSettings) -> None:
        every = load_dataset(params, seed=0).train
        count = min(3, len(every) - 1)
        first, second = (
            load_dataset(params.model_copy(update={"train_samples": count, "test_samples": 1}), seed=0)
            for _ in range(2)
        )
        assert (len(first.train), len(first.test)) == (count, 1)
        assert first.train.images.fingerprint() == second.train.images.fingerprint() != every.images.fingerprint()
        assert np.array_equal(first.train.labels, second.train.labels)


def _pixels(split: Split, rows: np.ndarray) -> np.ndarray:
    images, corrupt = Decoder(32, "bilinear", 2)(split.images, rows)
    assert corrupt == []
    assert images.shape == (len(rows), 32, 32, 3)
    assert images.dtype == np.uint8
    return images
