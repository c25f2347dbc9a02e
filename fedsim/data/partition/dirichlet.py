"""Each class spread over clients by a Dirichlet distribution."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from fedsim.data.partition.base import Partitioner, Samples, dirichlet_shares
from fedsim.settings import PartitionSettings


class DirichletSettings(PartitionSettings):
    """Keys of :class:`Dirichlet`."""

    alpha: float = Field(10.0, ge=1e-4, le=1e6, description="Dirichlet concentration: 10 near IID, 0.1 very skewed")


class Dirichlet(Partitioner):
    """Each class is spread over clients with proportions drawn from Dir(alpha) (Hsu et al. 2019; Li et al., ICDE 2022).

    Draws that leave a client empty are repeated a few times; what remains empty is filled by :func:`partition`.
    """

    name = "dirichlet"
    summary = "each class spread by Dir(partition.alpha): 10 is near IID, 0.1 gives few classes a client"
    Params = DirichletSettings
    _draws = 10

    @classmethod
    def assign(cls, samples: Samples, params: DirichletSettings, rng: np.random.Generator) -> np.ndarray:
        classes, label_index = np.unique(samples.labels, return_inverse=True)
        order = rng.permutation(len(label_index))
        order = order[np.argsort(label_index[order], kind="stable")]  # by class, shuffled within
        counts = np.bincount(label_index)
        owner = np.empty(len(label_index), np.int64)
        for _ in range(cls._draws):
            start = 0
            for class_index in range(len(classes)):
                count = int(counts[class_index])
                shares = dirichlet_shares(rng, params.alpha, params.clients)
                cuts = np.rint(np.cumsum(shares) * count).astype(np.int64)
                cuts[-1] = count
                owner[order[start : start + count]] = np.repeat(np.arange(params.clients), np.diff(cuts, prepend=0))
                start += count
            if np.bincount(owner, minlength=params.clients).all():
                break
        return owner
