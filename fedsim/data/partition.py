"""Splitting training samples over clients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deltamask import stream_key
from fedsim.config import DataConfig
from fedsim.errors import ConfigError


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


class Partitioner(ABC):
    """A way to split samples over clients, a pure function of labels, configuration and seed."""

    name: ClassVar[str]
    summary: ClassVar[str]

    @classmethod
    @abstractmethod
    def assign(cls, labels: np.ndarray, config: DataConfig, rng: np.random.Generator) -> np.ndarray:
        """The client of each sample, int64 of shape ``(n,)``; a client may be left empty."""


def partition(partitioner: type[Partitioner], labels: np.ndarray, config: DataConfig, seed: int) -> Partition:
    """Split samples with int64 ``labels`` of shape ``(n,)`` over ``config.clients`` clients.

    A client that the partitioner leaves empty takes one sample from the largest client, so none is empty and the
    split cannot fail where it is possible at all.

    Raises:
        ConfigError: there are more clients than samples.
    """
    if config.clients > len(labels):
        raise ConfigError(
            f"data.clients: found {config.clients}, allowed: at most {len(labels)}, the number of training samples"
        )
    rng = np.random.Generator(np.random.Philox(key=stream_key(seed, "partition", partitioner.name)))
    owner = partitioner.assign(labels, config, rng)
    sizes = np.bincount(owner, minlength=config.clients)
    if not sizes.all():
        owner = _fill_empty(owner, sizes)
        sizes = np.bincount(owner, minlength=config.clients)
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


class Iid(Partitioner):
    """Samples shuffled and dealt evenly: sizes differ by at most one."""

    name = "iid"
    summary = "shuffled and dealt evenly"

    @classmethod
    def assign(cls, labels: np.ndarray, config: DataConfig, rng: np.random.Generator) -> np.ndarray:
        owner = np.arange(len(labels), dtype=np.int64) % config.clients
        return rng.permutation(owner)


class Dirichlet(Partitioner):
    """Each class is spread over clients with proportions drawn from Dir(alpha) (Hsu et al. 2019; Li et al., ICDE 2022).

    Draws that leave a client empty are repeated a few times; what remains empty is filled by :func:`partition`.
    """

    name = "dirichlet"
    summary = "each class spread by Dir(data.alpha): 10 is near IID, 0.1 gives few classes a client"
    _draws = 10

    @classmethod
    def assign(cls, labels: np.ndarray, config: DataConfig, rng: np.random.Generator) -> np.ndarray:
        classes, label_index = np.unique(labels, return_inverse=True)
        order = rng.permutation(len(labels))
        order = order[np.argsort(label_index[order], kind="stable")]  # by class, shuffled within
        counts = np.bincount(label_index)
        owner = np.empty(len(labels), np.int64)
        for _ in range(cls._draws):
            start = 0
            for class_index in range(len(classes)):
                count = int(counts[class_index])
                shares = _dirichlet(rng, config.alpha, config.clients)
                cuts = np.rint(np.cumsum(shares) * count).astype(np.int64)
                cuts[-1] = count
                owner[order[start : start + count]] = np.repeat(np.arange(config.clients), np.diff(cuts, prepend=0))
                start += count
            if np.bincount(owner, minlength=config.clients).all():
                break
        return owner


def _dirichlet(rng: np.random.Generator, alpha: float, size: int) -> np.ndarray:
    """One draw of a symmetric Dirichlet, computed in logs: gamma variates of a small alpha underflow to zero."""
    log_gamma = np.log(rng.standard_gamma(alpha + 1.0, size)) + np.log1p(-rng.random(size)) / alpha
    shares = np.exp(log_gamma - log_gamma.max())
    return shares / shares.sum()
