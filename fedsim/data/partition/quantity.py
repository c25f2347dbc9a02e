"""Labels at random, sizes by a Dirichlet distribution."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from fedsim.data.partition.base import Partitioner, Samples, dirichlet_shares
from fedsim.settings import PartitionSettings


class QuantitySettings(PartitionSettings):
    """Keys of :class:`Quantity`."""

    alpha: float = Field(10.0, ge=1e-4, le=1e6, description="Dirichlet concentration of the sizes: 0.1 is very skewed")


class Quantity(Partitioner):
    """Labels at random, sizes by Dir(``partition.alpha``): clients differ in how much they have (Li et al. 2022)."""

    name = "quantity"
    summary = "labels at random, client sizes by Dir(partition.alpha)"
    Params = QuantitySettings

    @classmethod
    def assign(cls, samples: Samples, params: QuantitySettings, rng: np.random.Generator) -> np.ndarray:
        count = len(samples.labels)
        cuts = np.rint(np.cumsum(dirichlet_shares(rng, params.alpha, params.clients)) * count).astype(np.int64)
        cuts[-1] = count
        return rng.permutation(np.repeat(np.arange(params.clients), np.diff(cuts, prepend=0)))
