"""Executors: one interface to what computes clients, and the one that does so in this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

from fedsim.config import Config
from fedsim.engine._trainer import LocalTrainer, set_threads
from fedsim.engine._types import Broadcast, EvaluationSums, PhaseName, Prepared, Ready, Upload


class Executor(ABC):
    """Computes clients and evaluations. What it returns does not depend on how it does so."""

    @abstractmethod
    def prepare(self) -> Prepared:
        """Have all prefix features computed; images are summed over all workers, seconds are those of the slowest."""

    def ready(self) -> Ready | None:
        """The state of :meth:`prepare`, for another thread while it works, on the slowest node; None: not known."""
        return None

    @abstractmethod
    def train(
        self,
        phase: PhaseName,
        round_index: int,
        cohort: Sequence[int],
        broadcast: Broadcast,
        kept: Mapping[int, int],
    ) -> Iterator[Upload]:
        """Train every client of the cohort; uploads come as they finish, each client once.

        ``kept`` has the rounds that clients of the cohort last kept something of.
        """

    @abstractmethod
    def evaluate(
        self, phase: PhaseName, round_index: int, chunks: int, broadcast: Broadcast
    ) -> list[dict[str, EvaluationSums]]:
        """Evaluate a broadcast's models on ``chunks`` pieces of the test split, in the order of the pieces."""

    @abstractmethod
    def close(self) -> None:
        """Release all workers."""


class SerialExecutor(Executor):
    """Computes everything in this process: for debugging, and for tests without Ray."""

    def __init__(self, config: Config) -> None:
        set_threads(config.cluster.cpus_per_worker)
        self.trainer = LocalTrainer(config)

    def prepare(self) -> Prepared:
        return self.trainer.prepare()

    def ready(self) -> Ready | None:
        return self.trainer.ready()

    def train(
        self,
        phase: PhaseName,
        round_index: int,
        cohort: Sequence[int],
        broadcast: Broadcast,
        kept: Mapping[int, int],
    ) -> Iterator[Upload]:
        return self.trainer.train(phase, round_index, cohort, broadcast, kept)

    def evaluate(
        self, phase: PhaseName, round_index: int, chunks: int, broadcast: Broadcast
    ) -> list[dict[str, EvaluationSums]]:
        return self.trainer.evaluate(phase, round_index, range(chunks), broadcast)

    def close(self) -> None:
        pass
