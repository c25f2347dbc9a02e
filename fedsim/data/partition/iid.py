"""Shuffled and dealt evenly."""

from __future__ import annotations

import numpy as np

from fedsim.data.partition.base import Partitioner, Samples
from fedsim.settings import PartitionSettings


class Iid(Partitioner):
    """Samples shuffled and dealt evenly: sizes differ by at most one."""

    name = "iid"
    summary = "shuffled and dealt evenly"

    @classmethod
    def assign(cls, samples: Samples, params: PartitionSettings, rng: np.random.Generator) -> np.ndarray:
        owner = np.arange(len(samples.labels), dtype=np.int64) % params.clients
        return rng.permutation(owner)
