"""Worker actors that are kept busy and alive."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from fedsim.distributed._queue import Queue
from fedsim.distributed._worker import Interrupted
from fedsim.engine import Ready
from fedsim.errors import ResourceError, WorkerLostError
from fedsim.settings import ClusterSettings

_POLL_SECONDS = 0.5  # how soon an interrupt is noticed


class Pool:
    """Workers, of which any may die at any time.

    Args:
        workers: handles of actors that restart.
        settings: deadlines, and how often an item is tried.
        interrupted: when set, by another thread, the call in progress raises :class:`Interrupted` soon.
    """

    def __init__(self, workers: list[Any], settings: ClusterSettings, interrupted: threading.Event) -> None:
        self.workers, self._cluster, self._interrupted = workers, settings, interrupted
        self._starting = [worker.alive.remote() for worker in workers]
        self._restarting: dict[Any, tuple[int, float]] = {}  # to wait for: workers that were lost, and since when
        self._gone: set[int] = set()  # workers that did not start again

    def close(self) -> None:
        """Kill the workers."""
        for worker in self.workers:
            ray.kill(worker)

    def collect(
        self,
        queue: Queue,
        submit: Callable[[int, list[int], bool], Any],
        what: str,
        *,
        seconds: float | None = None,
        lossy: bool = False,
    ) -> Iterator[tuple[int, Any, int]]:
        """Stream a value for every item that workers owe, whatever dies meanwhile: (item, value, attempt).

        A :class:`Ready` is no value, but the state of an item in progress, with attempt 0.

        Args:
            queue: the items.
            submit: starts a stream of lists of the values of some items, in their order, at a worker; as the third
                argument says, lists of one, so that it is known which item a worker dies under.
            what: an item in words, with ``{}`` for its number.
            seconds: time for an item before its worker is replaced; None for any.
            lossy: give a :class:`WorkerLostError` as the value of an item that workers died under too often.
        """
        self._wait_for_start()
        streams: dict[Any, int] = {}  # values to wait for, and the worker that gives them
        running: dict[int, list[int]] = {}  # items that a worker was given and has not done
        since: dict[int, float] = {}  # when it gave the last one
        losses: dict[int, int] = {}
        limit = self._cluster.round_seconds or math.inf
        ends = time.monotonic() + limit

        while True:
            away = self._gone | {worker for worker, _ in self._restarting.values()}
            for worker in sorted(set(range(len(self.workers))) - set(streams.values()) - away):
                if items := queue.take(worker):
                    running[worker], since[worker] = items, time.monotonic()
                    singly = bool(losses) or self._cluster.max_attempts == 1
                    streams[submit(worker, list(items), singly)] = worker
            if not streams and not queue:  # a worker that restarts is waited for only where it owes something
                return
            late = min(since.values(), default=math.inf) + seconds if seconds else math.inf
            ready = self._wait([*streams, *self._restarting], min(late, ends))
            if time.monotonic() > ends:
                owed = "; ".join(f"worker {worker}: {what.format(items[0])}" for worker, items in running.items())
                raise WorkerLostError(f"cluster.round_seconds={limit:g} passed; still at work: {owed or 'nobody'}")
            if not ready and seconds:
                for worker in [worker for worker in running if time.monotonic() - since[worker] > seconds]:
                    since[worker] = math.inf  # its stream ends with an error, below
                    ray.kill(self.workers[worker], no_restart=False)
            for reference in ready:
                if reference in self._restarting:
                    self._see_restart(reference, queue.shared)
                    continue
                worker = streams[reference]
                try:
                    values = ray.get(next(reference))
                except StopIteration:
                    del streams[reference], since[worker], running[worker]
                except RayTaskError as error:
                    raise error.cause from error
                except RayError as error:  # the actor died, ran out of memory, or its node took results with it
                    del streams[reference]
                    hung = since.pop(worker) == math.inf
                    if items := running.pop(worker):
                        # Items are computed in order, so the first one owed is the one that the worker died under.
                        losses[items[0]] = losses.get(items[0], 0) + 1
                        if losses[items[0]] >= self._cluster.max_attempts or _at_start(error):
                            reason = (
                                f"it gave nothing for cluster.client_seconds={seconds:g}" if hung else _reason(error)
                            )
                            lost = WorkerLostError(
                                f"{what.format(items[0])} was lost with worker {worker}, {losses[items[0]]} time(s); "
                                f"the last one: {reason}"
                            )
                            if _at_start(error) or not lossy:
                                raise lost from error
                            yield items[0], lost, losses[items[0]]
                            queue.done(items.pop(0))
                        queue.put_back(worker, items)
                    self._await_restart(worker, time.monotonic())
                else:
                    since[worker] = time.monotonic()
                    for value in values:
                        if isinstance(value, Ready):  # the item is not done yet
                            yield running[worker][0], value, 0
                            continue
                        item = running[worker].pop(0)
                        queue.done(item)
                        yield item, value, 1 + losses.get(item, 0)

    def _await_restart(self, worker: int, since: float) -> None:
        # A call to an actor that is still restarting fails; one with items would count as another loss of these.
        self._restarting[self.workers[worker].alive.remote()] = worker, since

    def _see_restart(self, reference: Any, shared: bool) -> None:
        """Note that a worker has started again, or has not in its time: others then go on without it, if they can."""
        worker, since = self._restarting.pop(reference)
        try:
            ray.get(reference)
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            # A lost node's worker restarts when there is room again: an autoscaler takes minutes to make some.
            if not _at_start(error) and time.monotonic() - since <= self._cluster.start_seconds:
                self._await_restart(worker, since)
                return
            self._gone.add(worker)
            if not shared or len(self._gone) == len(self.workers) or _at_start(error):
                raise WorkerLostError(
                    f"worker {worker} did not start again within cluster.start_seconds="
                    f"{self._cluster.start_seconds:g}: {_reason(error)}"
                ) from error

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


def _at_start(error: RayError) -> bool:
    """Whether the constructor of the actor raised, as it would again."""
    return bool(getattr(error, "actor_init_failed", False))


def _reason(error: RayError) -> str:
    """Ray's paragraphs in a line, with the keys that lower the need where memory may have run out."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if _at_start(error):
        return lines[-1]
    if isinstance(error, OutOfMemoryError) or "low on memory" in str(error):
        certain = "the memory of its node ran out"
    elif "SIGKILL" in str(error) or "exit code 137" in str(error):
        certain = f"{lines[0]} If its memory ran out"
    else:
        return lines[0]
    return f"{certain}: fewer cluster.workers share it; train.batch_size and model.masked_blocks lower the need of each"
