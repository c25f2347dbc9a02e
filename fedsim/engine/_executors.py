"""Who computes clients: one interface, and the executor that computes them in this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fedsim.config import Config
from fedsim.engine._trainer import ClientResult, Prepared, Score, Shard, Stage, set_threads
from fedsim.methods.base import Broadcast


class Executor(ABC):
    """Computes clients and evaluations. What it returns does not depend on how it does so."""

    @abstractmethod
    def prepare(self) -> Prepared:
        """Have all prefix features computed; the sum over all workers."""

    @abstractmethod
    def train(
        self,
        stage: Stage,
        round_index: int,
        cohort: Sequence[int],
        broadcast: Broadcast,
        memories: Mapping[int, np.ndarray],
    ) -> Iterator[ClientResult]:
        """Train every client of the cohort; results come as they finish, each client once.

        ``memories`` holds what clients of the cohort kept of their last rounds.
        """

    @abstractmethod
    def evaluate(self, stage: Stage, round_index: int, chunks: int, broadcast: Broadcast) -> list[dict[str, Score]]:
        """Score a broadcast's models on ``chunks`` pieces of the test split, in the order of the pieces."""

    @abstractmethod
    def close(self) -> None:
        """Release all workers."""


class SerialExecutor(Executor):
    """Computes everything in this process: for debugging, and for tests without Ray."""

    def __init__(self, config: Config) -> None:
        set_threads(config.cluster.cpus_per_worker)
        self._shard = Shard(config)

    def prepare(self) -> Prepared:
        return self._shard.prepare()

    def train(
        self,
        stage: Stage,
        round_index: int,
        cohort: Sequence[int],
        broadcast: Broadcast,
        memories: Mapping[int, np.ndarray],
    ) -> Iterator[ClientResult]:
        return self._shard.train(stage, round_index, cohort, broadcast, memories)

    def evaluate(self, stage: Stage, round_index: int, chunks: int, broadcast: Broadcast) -> list[dict[str, Score]]:
        return self._shard.evaluate(stage, round_index, range(chunks), broadcast)

    def close(self) -> None:
        pass
