"""The executor that keeps worker actors busy and alive."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from deltamask import Update
from fedsim.config import Config
from fedsim.data import load_dataset
from fedsim.data.partition import make_partition
from fedsim.distributed._queue import Queue, balanced_shards
from fedsim.distributed._worker import Interrupted, Worker
from fedsim.engine import (
    Broadcast,
    EvaluationSums,
    Executor,
    PhaseName,
    Prepared,
    Upload,
)
from fedsim.errors import ResourceError, WorkerLostError, in_words

_POLL_SECONDS = 0.5  # how soon an interrupt is noticed


class RayExecutor(Executor):
    """Computes clients in worker actors.

    A worker computes the clients of its own shard, some at a time, and streams the results; one that has no more takes
    over from those that have most left. When a worker dies, or gives no client for ``cluster.client_seconds``, it is
    replaced, and what it still owed is computed again; where it cannot start again, the others go on without it.

    Args:
        config: the experiment; shards are balanced by the number of training samples of their clients.
        workers: number of worker actors.
        interrupted: when set, by another thread, the call in progress raises :class:`Interrupted` soon.
    """

    def __init__(self, config: Config, workers: int, interrupted: threading.Event | None = None) -> None:
        self._cluster, self._drop = config.cluster, config.on_client_error == "drop"
        partition = make_partition(load_dataset(config.data, config.seed), config.partition, config.seed)
        self._samples = partition.sizes()
        self._owner = balanced_shards(self._samples, workers)
        options = {
            "num_cpus": config.cluster.cpus_per_worker,
            "num_gpus": config.cluster.gpus_per_worker,
            "max_restarts": -1,
        }
        self.workers = [
            Worker.options(**options).remote(config)  # type: ignore[attr-defined]
            for _ in range(workers)
        ]
        self._gone: set[int] = set()  # workers that did not start again
        self._starting = [worker.alive.remote() for worker in self.workers]
        self._published: tuple[Broadcast, Any] | None = None
        self._interrupted = interrupted or threading.Event()

    def prepare(self) -> Prepared:
        def submit(worker: int, items: list[int]) -> Any:
            return self.workers[worker].prepare.options(num_returns="streaming").remote()

        owed = [[worker] for worker in range(len(self.workers))]
        done = [value for _, value, _ in self._collect(owed, submit, "the prefix features of worker {}", shared=False)]
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
        kept: Mapping[int, int],
    ) -> Iterator[Upload]:
        reference = self._publish(broadcast)
        owners = self._owner[list(cohort)]
        owed = [[c for c, owner in zip(cohort, owners, strict=True) if owner == w] for w in range(len(self.workers))]

        def submit(worker: int, clients: list[int]) -> Any:
            method = self.workers[worker].train.options(num_returns="streaming")
            known = {client: kept[client] for client in clients if client in kept}
            return method.remote(phase, round_index, clients, reference, known)

        what, seconds = f"client {{}} of round {round_index}", self._cluster.client_seconds
        for client, result, attempt in self._collect(owed, submit, what, seconds=seconds, lossy=self._drop):
            if isinstance(result, WorkerLostError):
                samples = int(self._samples[client])
                yield Upload(client, samples, Update(b""), None, 0.0, 0.0, False, attempt, in_words(result))
            else:
                yield replace(result, attempt=attempt)

    def evaluate(
        self, phase: PhaseName, round_index: int, chunks: int, broadcast: Broadcast
    ) -> list[dict[str, EvaluationSums]]:
        reference = self._publish(broadcast)
        owed = [list(range(chunks))[index :: len(self.workers)] for index in range(len(self.workers))]

        def submit(worker: int, pieces: list[int]) -> Any:
            method = self.workers[worker].evaluate.options(num_returns="streaming")
            return method.remote(phase, round_index, pieces, reference)

        what = f"piece {{}} of the evaluation of round {round_index}"
        sums = {piece: values for piece, values, _ in self._collect(owed, submit, what, whole=True)}
        return [sums[chunk] for chunk in range(chunks)]

    def close(self) -> None:
        for worker in self.workers:
            ray.kill(worker)
        self.workers = []

    def _collect(
        self,
        owed: list[list[int]],
        submit: Callable[[int, list[int]], Any],
        what: str,
        *,
        seconds: float | None = None,
        shared: bool = True,
        whole: bool = False,
        lossy: bool = False,
    ) -> Iterator[tuple[int, Any, int]]:
        """Stream a value for every item that each worker owes, whatever dies meanwhile: (item, value, attempt).

        Args:
            owed: the items of each worker.
            submit: starts a stream of the values of some items, in their order, at a worker.
            what: an item in words, with ``{}`` for its number.
            seconds: time for an item before its worker is replaced; None for any.
            shared, whole: see :class:`Queue`.
            lossy: give a :class:`WorkerLostError` as the value of an item that workers died under too often.
        """
        self._wait_for_start()
        queue = Queue(owed, shared=shared, whole=whole)
        streams: dict[Any, int] = {}  # what to wait for, and the worker that it is of
        running: dict[int, list[int]] = {}  # items that a worker was given and has not done
        since: dict[int, float] = {}  # when it gave the last one, or began to restart
        losses: dict[int, int] = {}

        while True:
            for worker in sorted(set(range(len(self.workers))) - set(streams.values()) - self._gone):
                if items := queue.take(worker):
                    running[worker], since[worker] = items, time.monotonic()
                    streams[submit(worker, list(items))] = worker
            if not streams:
                return
            # Not of workers that restart: they have start_seconds.
            late = min((since[one] for one in running), default=math.inf) + seconds if seconds else math.inf
            ready = self._wait(list(streams), late)
            if not ready and seconds:
                for worker in [worker for worker in running if time.monotonic() - since[worker] > seconds]:
                    since[worker] = math.inf  # its stream ends with an error, below
                    ray.kill(self.workers[worker], no_restart=False)
            for reference in ready:
                worker = streams[reference]
                restarted = isinstance(reference, ray.ObjectRef)
                try:
                    value = ray.get(reference if restarted else next(reference))
                except StopIteration:
                    del streams[reference], since[worker], running[worker]
                except RayTaskError as error:
                    raise error.cause from error
                except RayError as error:  # the actor died, ran out of memory, or its node took results with it
                    del streams[reference]
                    # A lost node's worker restarts when there is room again: an autoscaler takes minutes to make some.
                    waiting = restarted and isinstance(error, ActorUnavailableError)
                    if waiting and time.monotonic() - since[worker] > self._cluster.start_seconds:
                        self._gone.add(worker)  # the others go on without it
                        if not queue.shared or len(self._gone) == len(self.workers):
                            raise WorkerLostError(
                                f"worker {worker} did not start again within "
                                f"cluster.start_seconds={self._cluster.start_seconds:g}"
                            ) from error
                        since.pop(worker, None)
                        continue
                    hung = since.get(worker) == math.inf
                    if not waiting:
                        since[worker] = time.monotonic()
                    if (items := running.pop(worker, [])) and not waiting:
                        # Items are computed in order, so the first one owed is the one that the worker died under.
                        losses[items[0]] = losses.get(items[0], 0) + 1
                        fatal = getattr(error, "actor_init_failed", False)
                        if losses[items[0]] >= self._cluster.max_attempts or fatal:
                            reason = f"it gave nothing for cluster.client_seconds={seconds:g}" if hung else error
                            lost = WorkerLostError(
                                f"{what.format(items[0])} was lost with worker {worker}, {losses[items[0]]} time(s); "
                                f"the last one: {reason}"
                            )
                            if fatal or not lossy:
                                raise lost from error
                            yield items[0], lost, losses[items[0]]
                            del items[0]
                        queue.put_back(worker, items)
                    # A call to an actor that is still restarting fails; that would count as another loss.
                    if worker not in self._gone:
                        streams[self.workers[worker].alive.remote()] = worker
                else:
                    if restarted:
                        del streams[reference], since[worker]
                    else:
                        item = running[worker].pop(0)
                        since[worker] = time.monotonic()
                        yield item, value, 1 + losses.get(item, 0)

    def _wait_for_start(self) -> None:
        """Wait until every worker has started, but not for ever: other runs may hold what the cluster has."""
        deadline = time.monotonic() + self._cluster.start_seconds
        while self._starting:
            ready = self._wait(self._starting, deadline)
            if not ready:
                free = {name: amount for name, amount in ray.available_resources().items() if name in ("CPU", "GPU")}
                raise ResourceError(
                    f"cluster.workers: {len(self._starting)} of {len(self.workers)} did not start within "
                    f"cluster.start_seconds={self._cluster.start_seconds:g}; the cluster has {free or 'nothing'} free"
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
