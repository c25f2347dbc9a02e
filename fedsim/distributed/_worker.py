"""The Ray actor that computes clients."""

from __future__ import annotations

from collections.abc import Iterator

import ray

from fedsim.config import Config
from fedsim.engine import Broadcast, EvaluationSums, LocalTrainer, PhaseName, Prepared, Upload, set_threads

_RESTARTS = 5  # deaths of a worker while it restarts that are tolerated


class Interrupted(RuntimeError):
    """The run was asked to stop in the middle of a round."""


@ray.remote
class Worker:
    """One process with one shard of clients, one frozen backbone and a share of a GPU."""

    def __init__(self, config: Config) -> None:
        set_threads(config.cluster.cpus_per_worker)
        self._trainer = LocalTrainer(config)

    def prepare(self) -> Iterator[Prepared]:
        """One value, when the prefix features are there: a stream, as all work is."""
        yield self._trainer.prepare()

    def train(
        self,
        phase: PhaseName,
        round_index: int,
        clients: list[int],
        broadcast: Broadcast,
        kept: dict[int, int],
    ) -> Iterator[Upload]:
        """Stream uploads of clients as they finish, in the order of ``clients``."""
        yield from self._trainer.train(phase, round_index, clients, broadcast, kept)

    def evaluate(
        self, phase: PhaseName, round_index: int, pieces: list[int], broadcast: Broadcast
    ) -> Iterator[dict[str, EvaluationSums]]:
        """Stream the sums over pieces of the test and validation samples."""
        for sums in self._trainer.evaluate(phase, round_index, pieces, broadcast):  # noqa: UP028 - Ray sends to it
            yield sums

    @ray.method(max_task_retries=_RESTARTS)
    def alive(self) -> None:
        """Return as soon as the worker has started, or started again."""
