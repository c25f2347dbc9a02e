"""The Ray actor that holds a shard of clients, and the executor that keeps such workers busy and alive."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError, RayTaskError

from fedsim.config import Config
from fedsim.executors import Executor
from fedsim.shard import ClientResult, Score, Shard, Stage, set_threads

_POLL_SECONDS = 0.5  # how soon an interrupt is noticed


class WorkerLostError(RuntimeError):
    """Workers died under the same work more often than ``cluster.max_attempts`` allows."""


class Interrupted(RuntimeError):
    """The run was asked to stop in the middle of a round."""


@ray.remote
class Worker:
    """One process with one shard of clients, one frozen backbone and a share of a GPU.

    Ray restarts a dead worker with the same arguments, so it is told its shard again.
    """

    def __init__(self, config: Config, clients: np.ndarray) -> None:
        set_threads(config.cluster.cpus_per_worker)
        self._shard = Shard(config, clients)

    def train(self, stage: Stage, round_index: int, clients: list[int], broadcast: bytes) -> Iterator[ClientResult]:
        """Stream results of clients as they finish."""
        yield from self._shard.train(stage, round_index, clients, broadcast)

    def evaluate(self, stage: Stage, round_index: int, chunks: list[int], broadcast: bytes) -> list[dict[str, Score]]:
        """Score pieces of the test split."""
        return self._shard.evaluate(stage, round_index, chunks, broadcast)


class RayExecutor(Executor):
    """Computes clients in worker actors.

    A worker computes the clients of its own shard, whose features it has; it gets its part of a cohort in one call
    and streams the results. When it dies, Ray restarts it and the clients that it still owed are computed again.

    Args:
        config: the experiment.
        sizes: training samples of each client, int64 of shape ``(clients,)``; shards are balanced by them.
        workers: number of worker actors.
        interrupted: when set, by another thread, the call in progress raises :class:`Interrupted` soon.
    """

    def __init__(
        self, config: Config, sizes: np.ndarray, workers: int, interrupted: threading.Event | None = None
    ) -> None:
        self._max_attempts = config.cluster.max_attempts
        self._owner = _balanced_shards(sizes, workers)
        options = {
            "num_cpus": config.cluster.cpus_per_worker,
            "num_gpus": config.cluster.gpus_per_worker,
            "max_restarts": -1,
        }
        self.workers = [
            Worker.options(**options).remote(config, np.flatnonzero(self._owner == index))  # type: ignore[attr-defined]
            for index in range(workers)
        ]
        self._published: tuple[bytes, Any] | None = None
        self._interrupted = interrupted or threading.Event()

    def train(self, stage: Stage, round_index: int, cohort: Sequence[int], broadcast: bytes) -> Iterator[ClientResult]:
        reference = self._publish(broadcast)
        owners = self._owner[list(cohort)]
        attempts: dict[int, int] = {}
        streams: dict[Any, tuple[int, list[int]]] = {}

        def start(worker: int, clients: list[int]) -> None:
            method = self.workers[worker].train.options(num_returns="streaming")
            streams[method.remote(stage, round_index, clients, reference)] = (worker, clients)

        for worker in range(len(self.workers)):
            clients = [client for client, owner in zip(cohort, owners, strict=True) if owner == worker]
            if clients:
                start(worker, clients)
        while streams:
            for stream in self._wait(list(streams)):
                worker, owed = streams[stream]
                try:
                    result = ray.get(next(stream))
                except StopIteration:
                    del streams[stream]
                except RayActorError as error:
                    del streams[stream]
                    # Clients are computed in order, so the first one owed is the one that the worker died under.
                    self._count_loss(attempts, owed[0], f"client {owed[0]} of round {round_index}", error)
                    start(worker, owed)
                except RayTaskError as error:
                    raise error.cause from error
                else:
                    owed.remove(result.client)
                    yield replace(result, attempt=1 + attempts.get(result.client, 0))

    def evaluate(self, stage: Stage, round_index: int, chunks: int, broadcast: bytes) -> list[dict[str, Score]]:
        reference = self._publish(broadcast)
        parts = [list(range(chunks))[index :: len(self.workers)] for index in range(len(self.workers))]
        losses: dict[int, int] = {}
        calls: dict[Any, int] = {}

        def start(worker: int) -> None:
            calls[self.workers[worker].evaluate.remote(stage, round_index, parts[worker], reference)] = worker

        for worker, part in enumerate(parts):
            if part:
                start(worker)
        scores: dict[int, dict[str, Score]] = {}
        while calls:
            for call in self._wait(list(calls)):
                worker = calls.pop(call)
                try:
                    scores.update(zip(parts[worker], ray.get(call), strict=True))
                except RayActorError as error:
                    self._count_loss(losses, worker, f"the evaluation of round {round_index}", error)
                    start(worker)
                except RayTaskError as error:
                    raise error.cause from error
        return [scores[chunk] for chunk in range(chunks)]

    def close(self) -> None:
        for worker in self.workers:
            ray.kill(worker)
        self.workers = []

    def _wait(self, pending: list[Any]) -> list[Any]:
        """Those of ``pending`` that have something to fetch; at least one."""
        while not self._interrupted.is_set():
            ready, _ = ray.wait(pending, num_returns=1, timeout=_POLL_SECONDS, fetch_local=False)
            if ready:
                return ready
        raise Interrupted("interrupted in the middle of a round")

    def _publish(self, broadcast: bytes) -> Any:
        """A reference to a broadcast; the one that was evaluated last is the one that is trained from next."""
        if self._published is None or self._published[0] is not broadcast:
            self._published = (broadcast, ray.put(broadcast))
        return self._published[1]

    def _count_loss(self, losses: dict[int, int], key: int, what: str, error: RayActorError) -> None:
        losses[key] = losses.get(key, 0) + 1
        if losses[key] >= self._max_attempts or getattr(error, "actor_init_failed", False):
            raise WorkerLostError(f"{what}: {losses[key]} worker(s) died, the last one by: {error}") from error


def _balanced_shards(sizes: np.ndarray, workers: int) -> np.ndarray:
    """The worker of each client, int64: largest clients first, each to the worker that has fewest samples."""
    owner = np.empty(sizes.size, np.int64)
    loads = [(0, worker) for worker in range(workers)]
    for client in np.argsort(-sizes, kind="stable"):
        load, worker = heapq.heappop(loads)
        owner[client] = worker
        heapq.heappush(loads, (load + int(sizes[client]), worker))
    return owner
