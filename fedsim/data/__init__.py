"""Datasets and partitioners: one file each plus its line here."""

from __future__ import annotations

from fedsim.config import DataConfig
from fedsim.data.dataset import Dataset, Split
from fedsim.data.digits import Digits
from fedsim.data.partition import Dirichlet, Iid, Partition, Partitioner, partition
from fedsim.registry import Registry

__all__ = ["DATASETS", "PARTITIONERS", "Dataset", "Partition", "Partitioner", "Split", "load_dataset", "make_partition"]

DATASETS: Registry[type[Dataset]] = Registry("data.name", [Digits])
PARTITIONERS: Registry[type[Partitioner]] = Registry("data.partition", [Iid, Dirichlet])


def load_dataset(config: DataConfig) -> Dataset:
    """The dataset that a configuration names."""
    return DATASETS.get(config.name)(config)


def make_partition(dataset: Dataset, config: DataConfig, seed: int) -> Partition:
    """The split of a dataset's training samples that a configuration and a seed give."""
    return partition(PARTITIONERS.get(config.partition), dataset.train().labels, config, seed)
