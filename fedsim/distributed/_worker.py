"""The Ray actor that computes clients."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np
import ray

from fedsim.config import Config
from fedsim.engine import Broadcast, EvaluationSums, LocalTrainer, PhaseName, Prepared, Ready, Upload, set_threads
from fedsim.logs import show_records

_RESTARTS = 5  # deaths of a worker while it restarts that are tolerated
_TOLD_SECONDS = 1.0  # between two notes of what is ready
_BATCH_SECONDS, _BATCHED = 0.05, 1000  # of work, and values, that are sent together
T = TypeVar("T")


class Interrupted(RuntimeError):
    """The run was asked to stop in the middle of a round."""


@ray.remote
class Worker:
    """One process with one shard of clients, one frozen backbone and a share of a GPU."""

    def __init__(self, config: Config) -> None:
        show_records()
        set_threads(config.cluster.cpus_per_worker)
        self._trainer = LocalTrainer(config)

    def prepare(self) -> Iterator[list[Prepared | Ready]]:
        """One value, when the prefix features are there: a stream of lists, as all work is. Before it, how many are."""
        with ThreadPoolExecutor(1, "prepare") as thread:
            preparing = thread.submit(self._trainer.prepare)
            while not wait([preparing], _TOLD_SECONDS).done:
                if (ready := self._trainer.ready()) is not None:
                    yield [ready]
        yield [preparing.result()]

    def train(
        self,
        phase: PhaseName,
        round_index: int,
        clients: list[int],
        broadcast: Broadcast,
        kept: dict[int, int],
        singly: bool,
    ) -> Iterator[list[tuple[Upload, np.ndarray]]]:
        """Stream uploads of clients as they finish, in the order of ``clients``; ``singly``, each as a list of one.

        Payloads are beside them as arrays, which Ray does not copy on their way out of its store.
        """
        uploads = self._trainer.train(phase, round_index, clients, broadcast, kept)
        parts = ((upload.without_payload(), np.frombuffer(upload.update.payload, np.uint8)) for upload in uploads)
        yield from _batched(parts, 0.0 if singly else _BATCH_SECONDS)

    def evaluate(
        self, phase: PhaseName, round_index: int, pieces: list[int], broadcast: Broadcast
    ) -> Iterator[list[dict[str, EvaluationSums]]]:
        """The sums over pieces of the test and validation samples."""
        yield self._trainer.evaluate(phase, round_index, pieces, broadcast)

    @ray.method(max_task_retries=_RESTARTS)
    def alive(self) -> None:
        """Return as soon as the worker has started, or started again."""


def _batched(values: Iterable[T], seconds: float) -> Iterator[list[T]]:
    """Values in lists of so much work, so that those of many small clients are one message; others go one by one."""
    batch: list[T] = []
    began = time.monotonic()
    for value in values:
        batch.append(value)
        if time.monotonic() - began >= seconds or len(batch) == _BATCHED:
            yield batch
            batch, began = [], time.monotonic()
    if batch:
        yield batch
