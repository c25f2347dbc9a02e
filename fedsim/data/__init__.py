"""Datasets and partitioners: one file each plus its line here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedsim.config import DataConfig
from fedsim.data.dataset import Dataset, Split
from fedsim.data.digits import Digits
from fedsim.data.folder import ImageFolder
from fedsim.data.images import Decoder, Images
from fedsim.data.parquet import ParquetDataset
from fedsim.data.partition._partition import (
    Dirichlet,
    Iid,
    Natural,
    Partition,
    Partitioner,
    Quantity,
    Shards,
    partition,
)
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

__all__ = [
    "DATASETS",
    "PARTITIONERS",
    "Dataset",
    "Decoder",
    "Images",
    "LoadedDataset",
    "Partition",
    "Partitioner",
    "Split",
    "load_dataset",
    "make_partition",
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
)
PARTITIONERS: Registry[type[Partitioner]] = Registry("data.partition", [Iid, Dirichlet, Shards, Quantity, Natural])


@dataclass(frozen=True)
class LoadedDataset:
    """A dataset's splits, cut to the numbers of samples that the configuration asks for."""

    classes: Sequence[str]
    train: Split
    test: Split


def load_dataset(config: DataConfig) -> LoadedDataset:
    """The dataset that a configuration names.

    Raises:
        DataError: it is not where it was looked for, or cannot be read.
    """
    dataset = DATASETS.get(config.name)(config)
    train, test = dataset.train().sample(config.train_samples), dataset.test().sample(config.test_samples)
    return LoadedDataset(dataset.classes, train, test)


def make_partition(train: Split, config: DataConfig, seed: int) -> Partition:
    """The split of training samples over clients that a configuration and a seed give."""
    return partition(PARTITIONERS.get(config.partition), train, config, seed)
