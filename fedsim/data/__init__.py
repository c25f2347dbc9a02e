"""Datasets: one file each plus its line here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedsim.data.dataset import Dataset, Split
from fedsim.data.digits import Digits
from fedsim.data.folder import ImageFolder
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
        Synthetic,
    ],
    base=Dataset,
)


@dataclass(frozen=True)
class LoadedDataset:
    """A dataset's splits, cut to the numbers of samples that the configuration asks for."""

    classes: Sequence[str]
    train: Split
    test: Split


def load_dataset(params: DataSettings) -> LoadedDataset:
    """The dataset that settings name.

    Raises:
        DataError: it is not where it was looked for, or cannot be read.
    """
    dataset = DATASETS.get(params.name)(params)
    train, test = dataset.train().sample(params.train_samples), dataset.test().sample(params.test_samples)
    return LoadedDataset(dataset.classes, train, test)
