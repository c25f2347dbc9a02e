"""Splitting training samples over clients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol

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

    def label_counts(self, labels: np.ndarray, classes: int) -> np.ndarray:
        """Samples of each client by label, int64 of shape ``(clients, classes)``."""
        client = np.repeat(np.arange(self.clients), self.sizes())
        counts = np.bincount(client * classes + labels[self.order], minlength=self.clients * classes)
        return counts.reshape(self.clients, classes)


class Samples(Protocol):
    """What a partitioner looks at; a :class:`~fedsim.data.dataset.Split` is one.

    Attributes:
        labels: int64 class indices of shape ``(n,)``.
        groups: int64 of shape ``(n,)``, whose sample it is by nature; None when unknown.
    """

    @property
    def labels(self) -> np.ndarray: ...
    @property
    def groups(self) -> np.ndarray | None: ...


class Partitioner(ABC):
    """A way to split samples over clients, a pure function of labels, configuration and seed."""

    name: ClassVar[str]
    summary: ClassVar[str]

    @classmethod
    @abstractmethod
    def assign(cls, samples: Samples, config: DataConfig, rng: np.random.Generator) -> np.ndarray:
        """The client of each sample, int64 of shape ``(n,)``; a client may be left empty.

        Raises:
            ConfigError: the samples cannot be split in this way.
        """


def partition(partitioner: type[Partitioner], samples: Samples, config: DataConfig, seed: int) -> Partition:
    """Split samples over ``config.clients`` clients.

    A client that the partitioner leaves empty takes one sample from the largest client, so none is empty and the
    split cannot fail where it is possible at all.

    Raises:
        ConfigError: there are more clients than samples, or the samples cannot be split in this way.
    """
    if config.clients > len(samples.labels):
        raise ConfigError(
            f"data.clients: found {config.clients}, allowed: at most {len(samples.labels)}, "
            "the number of training samples"
        )
    rng = np.random.Generator(np.random.Philox(key=stream_key(seed, "partition", partitioner.name)))
    owner = partitioner.assign(samples, config, rng)
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
    def assign(cls, samples: Samples, config: DataConfig, rng: np.random.Generator) -> np.ndarray:
        owner = np.arange(len(samples.labels), dtype=np.int64) % config.clients
        return rng.permutation(owner)


class Dirichlet(Partitioner):
    """Each class is spread over clients with proportions drawn from Dir(alpha) (Hsu et al. 2019; Li et al., ICDE 2022).

    Draws that leave a client empty are repeated a few times; what remains empty is filled by :func:`partition`.
    """

    name = "dirichlet"
    summary = "each class spread by Dir(data.alpha): 10 is near IID, 0.1 gives few classes a client"
    _draws = 10

    @classmethod
    def assign(cls, samples: Samples, config: DataConfig, rng: np.random.Generator) -> np.ndarray:
        classes, label_index = np.unique(samples.labels, return_inverse=True)
        order = rng.permutation(len(label_index))
        order = order[np.argsort(label_index[order], kind="stable")]  # by class, shuffled within
        counts = np.bincount(label_index)
        owner = np.empty(len(label_index), np.int64)
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


class Shards(Partitioner):
    """Samples sorted by label, cut into equal shards, ``data.labels_per_client`` of them dealt to each client.

    McMahan et al. 2017: a client sees about that many labels.
    """

    name = "shards"
    summary = "sorted by label, cut, data.labels_per_client pieces a client"

    @classmethod
    def assign(cls, samples: Samples, config: DataConfig, rng: np.random.Generator) -> np.ndarray:
        count = len(samples.labels)
        order = rng.permutation(count)
        order = order[np.argsort(samples.labels[order], kind="stable")]
        shards = config.clients * config.labels_per_client
        dealt = rng.permutation(shards) // config.labels_per_client
        owner = np.empty(count, np.int64)
        owner[order] = dealt[np.arange(count) * shards // count]
        return owner


class Quantity(Partitioner):
    """Labels at random, sizes by Dir(``data.alpha``): clients differ in how much they have (Li et al., ICDE 2022)."""

    name = "quantity"
    summary = "labels at random, client sizes by Dir(data.alpha)"

    @classmethod
    def assign(cls, samples: Samples, config: DataConfig, rng: np.random.Generator) -> np.ndarray:
        count = len(samples.labels)
        cuts = np.rint(np.cumsum(_dirichlet(rng, config.alpha, config.clients)) * count).astype(np.int64)
        cuts[-1] = count
        return rng.permutation(np.repeat(np.arange(config.clients), np.diff(cuts, prepend=0)))


class Natural(Partitioner):
    """By the values of ``data.group_column``, each wholly at one client; several at one where there are more values."""

    name = "natural"
    summary = "by the values of data.group_column of a Parquet dataset, such as a writer or a camera"

    @classmethod
    def assign(cls, samples: Samples, config: DataConfig, rng: np.random.Generator) -> np.ndarray:
        if samples.groups is None:
            raise ConfigError(
                f"data.group_column: found {config.group_column!r}, allowed: a column of a parquet dataset, "
                "since data.partition is natural"
            )
        values, group = np.unique(samples.groups, return_inverse=True)
        if config.clients > len(values):
            raise ConfigError(
                f"data.clients: found {config.clients}, allowed: at most {len(values)}, "
                "the number of values of data.group_column"
            )
        return (rng.permutation(len(values)) % config.clients)[group]


def _dirichlet(rng: np.random.Generator, alpha: float, size: int) -> np.ndarray:
    """One draw of a symmetric Dirichlet, computed in logs: gamma variates of a small alpha underflow to zero."""
    log_gamma = np.log(rng.standard_gamma(alpha + 1.0, size)) + np.log1p(-rng.random(size)) / alpha
    shares = np.exp(log_gamma - log_gamma.max())
    return shares / shares.sum()
