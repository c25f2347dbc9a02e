"""The Ray actor that holds a shard of clients, and the executor that keeps such workers busy and alive."""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from fedsim.config import Config
from fedsim.data import load_dataset
from fedsim.data.partition import make_partition
from fedsim.engine import (
    Broadcast,
    EvaluationSums,
    Executor,
    LocalTrainer,
    PhaseName,
    Prepared,
    Upload,
    set_threads,
)
from fedsim.errors import ResourceError, WorkerLostError

_POLL_SECONDS = 0.5  # how soon an interrupt is noticed
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
        client_states: dict[int, np.ndarray],
    ) -> Iterator[Upload]:
        """Stream uploads of clients as they finish, in the order of ``clients``."""
        yield from self._trainer.train(phase, round_index, clients, broadcast, client_states)

    def evaluate(
        self, phase: PhaseName, round_index: int, parts: list[list[int]], broadcast: Broadcast
    ) -> Iterator[list[dict[str, EvaluationSums]]]:
        """Stream sums over parts of the test split, each a list of pieces."""
        for part in parts:
            yield self._trainer.evaluate(phase, round_index, part, broadcast)

    @ray.method(max_task_retries=_RESTARTS)
    def alive(self) -> None:
        """Return as soon as the worker has started, or started again."""


class RayExecutor(Executor):
    """Computes clients in worker actors.

    A worker computes the clients of its own shard; it gets its part of a cohort in one call and streams the results.
    When it dies, Ray restarts it and the clients that it still owed are computed again.

    Args:
        config: the experiment; shards are balanced by the number of training samples of their clients.
        workers: number of worker actors.
        interrupted: when set, by another thread, the call in progress raises :class:`Interrupted` soon.
    """

    def __init__(self, config: Config, workers: int, interrupted: threading.Event | None = None) -> None:
        self._max_attempts = config.cluster.max_attempts
        partition = make_partition(load_dataset(config.data, config.seed), config.partition, config.seed)
        self._owner = _balanced_shards(partition.sizes(), workers)
        options = {
            "num_cpus": config.cluster.cpus_per_worker,
            "num_gpus": config.cluster.gpus_per_worker,
            "max_restarts": -1,
        }
        self.workers = [
            Worker.options(**options).remote(config)  # type: ignore[attr-defined]
            for _ in range(workers)
        ]
        self._start_seconds = config.cluster.start_seconds
        self._starting = [worker.alive.remote() for worker in self.workers]
        self._published: tuple[Broadcast, Any] | None = None
        self._interrupted = interrupted or threading.Event()

    def prepare(self) -> Prepared:
        def submit(worker: int) -> Any:
            return self.workers[worker].prepare.options(num_returns="streaming").remote()

        owed = [[worker] for worker in range(len(self.workers))]
        done = [value for _, value, _ in self._collect(owed, submit, "preparing prefix features")]
        warnings = dict.fromkeys(text for part in done for text in part.warnings)
        return Prepared(
            sum(part.images for part in done),
            max(part.corrupt for part in done),
            max(part.seconds for part in done),
            tuple(warnings),
        )

    def train(
        self,
        phase: PhaseName,
        round_index: int,
        cohort: Sequence[int],
        broadcast: Broadcast,
        client_states: Mapping[int, np.ndarray],
    ) -> Iterator[Upload]:
        reference = self._publish(broadcast)
        owners = self._owner[list(cohort)]
        owed = [[c for c, owner in zip(cohort, owners, strict=True) if owner == w] for w in range(len(self.workers))]

        def submit(worker: int) -> Any:
            method = self.workers[worker].train.options(num_returns="streaming")
            known = {client: client_states[client] for client in owed[worker] if client in client_states}
            return method.remote(phase, round_index, owed[worker], reference, known)

        for _, result, attempt in self._collect(owed, submit, f"a client of round {round_index}"):
            yield replace(result, attempt=attempt)

    def evaluate(
        self, phase: PhaseName, round_index: int, chunks: int, broadcast: Broadcast
    ) -> list[dict[str, EvaluationSums]]:
        reference = self._publish(broadcast)
        parts = [list(range(chunks))[index :: len(self.workers)] for index in range(len(self.workers))]
        owed = [[index] if part else [] for index, part in enumerate(parts)]

        def submit(worker: int) -> Any:
            method = self.workers[worker].evaluate.options(num_returns="streaming")
            return method.remote(phase, round_index, [parts[worker]], reference)

        sums: dict[int, dict[str, EvaluationSums]] = {}
        for index, values, _ in self._collect(owed, submit, f"the evaluation of round {round_index}"):
            sums.update(zip(parts[index], values, strict=True))
        return [sums[chunk] for chunk in range(chunks)]

    def close(self) -> None:
        for worker in self.workers:
            ray.kill(worker)
        self.workers = []

    def _collect(
        self, owed: list[list[int]], submit: Callable[[int], Any], what: str
    ) -> Iterator[tuple[int, Any, int]]:
        """Stream a value for every item that each worker owes, whatever dies meanwhile: (item, value, attempt).

        ``submit(worker)`` starts a stream of the values of ``owed[worker]``, in that order.
        """
        self._wait_for_start()
        losses: dict[int, int] = {}
        deadlines: dict[int, float] = {}  # for the restart of a worker
        pending = {submit(worker): worker for worker, items in enumerate(owed) if items}
        while pending:
            for reference in self._wait(list(pending)):
                worker = pending[reference]
                items = owed[worker]
                restarted = isinstance(reference, ray.ObjectRef)
                try:
                    value = ray.get(reference if restarted else next(reference))
                except StopIteration:
                    del pending[reference]
                except RayTaskError as error:
                    raise error.cause from error
                except RayError as error:  # the actor died, ran out of memory, or its node took results with it
                    del pending[reference]
                    # A lost node's worker restarts when there is room again: an autoscaler takes minutes to make some.
                    restarting = restarted and isinstance(error, ActorUnavailableError)
                    if restarting and time.monotonic() > deadlines[worker]:
                        raise WorkerLostError(
                            f"{what} was lost with its worker, which did not start again within "
                            f"cluster.start_seconds={self._start_seconds:g}"
                        ) from error
                    if items and not restarting:
                        # Items are computed in order, so the first one owed is the one that the worker died under.
                        losses[items[0]] = losses.get(items[0], 0) + 1
                        if losses[items[0]] >= self._max_attempts or getattr(error, "actor_init_failed", False):
                            raise WorkerLostError(
                                f"{what} was lost with its worker {losses[items[0]]} time(s); the last one: {error}"
                            ) from error
                        deadlines[worker] = time.monotonic() + self._start_seconds
                    if items:
                        # A call to an actor that is still restarting fails; that would count as another loss.
                        pending[self.workers[worker].alive.remote()] = worker
                else:
                    if restarted:
                        del pending[reference]
                        pending[submit(worker)] = worker
                    else:
                        item = items.pop(0)
                        yield item, value, 1 + losses.get(item, 0)

    def _wait_for_start(self) -> None:
        """Wait until every worker has started, but not for ever: other runs may hold what the cluster has."""
        deadline = time.monotonic() + self._start_seconds
        while self._starting:
            ready = self._wait(self._starting, deadline)
            if not ready:
                free = {name: amount for name, amount in ray.available_resources().items() if name in ("CPU", "GPU")}
                raise ResourceError(
                    f"cluster.workers: {len(self._starting)} of {len(self.workers)} did not start within "
                    f"cluster.start_seconds={self._start_seconds:g}; the cluster has {free or 'nothing'} free"
                )
            self._starting = [reference for reference in self._starting if reference not in ready]
            try:
                ray.get(ready)
            except RayTaskError as error:
                raise error.cause from error
            except RayActorError as error:
                raise WorkerLostError(f"a worker could not start: {error}") from error

    def _wait(self, pending: list[Any], deadline: float = math.inf) -> list[Any]:
        """Wait for those of ``pending`` that have something to fetch; at least one, or none after the deadline."""
        while not self._interrupted.is_set():
            if time.monotonic() > deadline:
                return []
            ready, _ = ray.wait(pending, num_returns=1, timeout=_POLL_SECONDS, fetch_local=False)
            if ready:
                return ready
        raise Interrupted("interrupted in the middle of a round")

    def _publish(self, broadcast: Broadcast) -> Any:
        """A reference to a broadcast; the one that was evaluated last is the one that is trained from next."""
        if self._published is None or self._published[0] is not broadcast:
            self._published = (broadcast, ray.put(broadcast))
        return self._published[1]


def _balanced_shards(sizes: np.ndarray, workers: int) -> np.ndarray:
    """The worker of each client, int64: largest clients first, each to the worker that has fewest samples."""
    owner = np.empty(sizes.size, np.int64)
    loads = [(0, worker) for worker in range(workers)]
    for client in np.argsort(-sizes, kind="stable"):
        load, worker = heapq.heappop(loads)
        owner[client] = worker
        heapq.heappush(loads, (load + int(sizes[client]), worker))
    return owner
