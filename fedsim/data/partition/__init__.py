"""Partitions of samples over clients: one file a partitioner plus its line here."""

from __future__ import annotations

from dataclasses import replace

from fedsim.data import LoadedDataset
from fedsim.data.partition.base import Partition, Partitioner, Samples, partition
from fedsim.data.partition.dirichlet import Dirichlet
from fedsim.data.partition.iid import Iid
from fedsim.data.partition.natural import Natural
from fedsim.data.partition.quantity import Quantity
from fedsim.data.partition.shards import Shards
from fedsim.registry import Registry
from fedsim.settings import PartitionSettings

__all__ = ["PARTITIONERS", "Partition", "Partitioner", "Samples", "make_partition", "partition"]

PARTITIONERS: Registry[type[Partitioner]] = Registry(
    "partition.name", [Iid, Dirichlet, Shards, Quantity, Natural], base=Partitioner
)


def make_partition(dataset: LoadedDataset, params: PartitionSettings, seed: int) -> Partition:
    """The split over clients, by settings and seed, of the training samples that are not held out for validation."""
    split = partition(PARTITIONERS.get(params.name), dataset.train.take(dataset.client_rows), params, seed)
    return replace(split, order=dataset.client_rows[split.order])
