"""Sorted by label and dealt in shards."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from fedsim.data.partition.base import Partitioner, Samples
from fedsim.settings import PartitionSettings


class ShardsSettings(PartitionSettings):
    """Keys of :class:`Shards`."""

    labels_per_client: int = Field(2, ge=1, le=10_000, description="shards of one client")


class Shards(Partitioner):
    """Samples sorted by label, cut into equal shards, ``partition.labels_per_client`` of them dealt to each client.

    McMahan et al. 2017: a client sees about that many labels.
    """

    name = "shards"
    summary = "sorted by label, cut, partition.labels_per_client pieces a client"
    Params = ShardsSettings

    @classmethod
    def assign(cls, samples: Samples, params: ShardsSettings, rng: np.random.Generator) -> np.ndarray:
        count = len(samples.labels)
        order = rng.permutation(count)
        order = order[np.argsort(samples.labels[order], kind="stable")]
        shards = params.clients * params.labels_per_client
        dealt = rng.permutation(shards) // params.labels_per_client
        owner = np.empty(count, np.int64)
        owner[order] = dealt[np.arange(count) * shards // count]
        return owner
