"""Datasets: one file each plus its line here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deltamask import stream_key
from fedsim.data.dataset import Dataset, Split
from fedsim.data.digits import Digits
from fedsim.data.folder import ImageFolder
from fedsim.data.hugging_face import HuggingFace
from fedsim.data.images import ArrayImages, Decoder, Images
from fedsim.data.parquet import ParquetDataset
from fedsim.data.synthetic import Synthetic
from fedsim.data.torchvision_datasets import (
    Cars196,
    Cifar10,
    Cifar100,
    Emnist,
    EuroSat,
    FashionMnist,
    Food101,
    Svhn,
)
from fedsim.errors import DataError
from fedsim.registry import Registry
from fedsim.settings import DataSettings

__all__ = [
    "ArrayImages",
    "DATASETS",
    "Dataset",
    "Decoder",
    "Images",
    "LoadedDataset",
    "Split",
    "load_dataset",
]

DATASETS: Registry[type[Dataset]] = Registry(
    "data.name",
    [
        Digits,
        Cifar10,
        Cifar100,
        Svhn,
        Emnist,
        FashionMnist,
        EuroSat,
        Food101,
        Cars196,
        ParquetDataset,
        ImageFolder,
        HuggingFace,
        Synthetic,
    ],
    base=Dataset,
)


@dataclass(frozen=True)
class LoadedDataset:
    """A dataset's splits, cut to the numbers of samples that the configuration asks for.

    Attributes:
        classes: names of the classes.
        train: the training samples, those that are held out included, so that their features are those of every seed.
        test: the test samples, for reporting alone.
        client_rows: rows of ``train`` that are split over clients, ascending int64.
        validation_rows: rows of ``train`` that are held out for tuning and choosing, ascending int64.
    """

    classes: Sequence[str]
    train: Split
    test: Split
    client_rows: np.ndarray
    validation_rows: np.ndarray


def load_dataset(params: DataSettings, seed: int) -> LoadedDataset:
    """The dataset that settings name, with the validation samples that a seed gives.

    Raises:
        DataError: it is not where it was looked for, or cannot be read.
    """
    dataset = DATASETS.get(params.name)(params)
    train, test = dataset.train().sample(params.train_samples), dataset.test().sample(params.test_samples)
    for name, split in (("training", train), ("test", test)):
        if not len(split):
            raise DataError(f"data.name: found no {name} samples in {params.name}, allowed: at least one")
    held_out = min(len(train) - 1, int(np.ceil(params.validation * len(train))))
    order = np.random.Generator(np.random.Philox(key=stream_key(seed, "validation"))).permutation(len(train))
    return LoadedDataset(dataset.classes, train, test, np.sort(order[held_out:]), np.sort(order[:held_out]))
