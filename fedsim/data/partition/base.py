"""A partition of training samples over clients, and the interface of partitioners."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from deltamask import stream_key
from fedsim.errors import ConfigError
from fedsim.settings import PartitionSettings


@dataclass(frozen=True)
class Partition:
    """Every sample exactly once, each client a range of one permutation.

    Attributes:
        order: int64 sample indices of shape ``(n,)``.
        offsets: int64 of shape ``(clients + 1,)``; client k owns ``order[offsets[k]:offsets[k + 1]]``, never empty.
    """

    order: np.ndarray
    offsets: np.ndarray

    @property
    def clients(self) -> int:
        """Number of clients."""
        return len(self.offsets) - 1

    def sizes(self) -> np.ndarray:
        """Samples of each client, int64 of shape ``(clients,)``."""
        return np.diff(self.offsets)

    def indices(self, client: int) -> np.ndarray:
        """Sample indices of one client, int64."""
        return self.order[self.offsets[client] : self.offsets[client + 1]]

    def label_counts(self, labels: np.ndarray, classes: int) -> np.ndarray:
        """Samples of each client by label, int64 of shape ``(clients, classes)``."""
        client = np.repeat(np.arange(self.clients), self.sizes())
        counts = np.bincount(client * classes + labels[self.order], minlength=self.clients * classes)
        return counts.reshape(self.clients, classes)


class Samples(Protocol):
    """Samples as a partitioner sees them; a :class:`~fedsim.data.dataset.Split` is one.

    Attributes:
        labels: int64 class indices of shape ``(n,)``.
    """

    @property
    def labels(self) -> np.ndarray: ...
    def column(self, name: str) -> np.ndarray:
        """Values of a column, as int64 of shape ``(n,)``. Raises ConfigError or DataError when there is none."""


class Partitioner(ABC):
    """A way to split samples over clients, a pure function of samples, settings and seed."""

    name: ClassVar[str]
    summary: ClassVar[str]
    #: Its keys in the ``partition`` group.
    Params: ClassVar[type[PartitionSettings]] = PartitionSettings

    @classmethod
    @abstractmethod
    def assign(cls, samples: Samples, params: Any, rng: np.random.Generator) -> np.ndarray:
        """The client of each sample, int64 of shape ``(n,)``; a client may be left empty.

        Raises:
            ConfigError: the samples cannot be split in this way.
        """


def partition(partitioner: type[Partitioner], samples: Samples, params: PartitionSettings, seed: int) -> Partition:
    """Split samples over ``params.clients`` clients.

    A client that the partitioner leaves empty takes one sample from the largest client, so none is empty and the
    split cannot fail where it is possible at all.

    Raises:
        ConfigError: there are more clients than samples, or the samples cannot be split in this way.
    """
    if params.clients > len(samples.labels):
        raise ConfigError(
            f"partition.clients: found {params.clients}, allowed: at most {len(samples.labels)}, "
            "the number of training samples that are not held out"
        )
    rng = np.random.Generator(np.random.Philox(key=stream_key(seed, "partition", params.name)))
    owner = partitioner.assign(samples, params, rng)
    sizes = np.bincount(owner, minlength=params.clients)
    if not sizes.all():
        owner = _fill_empty(owner, sizes)
        sizes = np.bincount(owner, minlength=params.clients)
    return Partition(np.argsort(owner, kind="stable"), np.concatenate([[0], np.cumsum(sizes)]))


def _fill_empty(owner: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Give each empty client one sample of the clients that have most, which keep at least one."""
    empty = np.flatnonzero(sizes == 0)
    # Cutting every client at one level, the highest that frees enough samples, takes from the largest first.
    low, high = 1, int(sizes.max())
    while low < high:
        level = (low + high + 1) // 2
        low, high = (level, high) if np.maximum(sizes - level, 0).sum() >= empty.size else (low, level - 1)
    order = np.argsort(owner, kind="stable")
    starts = np.cumsum(sizes) - sizes
    rank = np.arange(owner.size) - np.repeat(starts, sizes)  # position of a sample within its client
    spare = order[rank >= np.repeat(np.full(sizes.size, low), sizes)]
    filled = owner.copy()
    filled[spare[: empty.size]] = empty
    return filled


def dirichlet_shares(rng: np.random.Generator, alpha: float, size: int) -> np.ndarray:
    """One draw of a symmetric Dirichlet, computed in logs: gamma variates of a small alpha underflow to zero."""
    log_gamma = np.log(rng.standard_gamma(alpha + 1.0, size)) + np.log1p(-rng.random(size)) / alpha
    shares = np.exp(log_gamma - log_gamma.max())
    return shares / shares.sum()
