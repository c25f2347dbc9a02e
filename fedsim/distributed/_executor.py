"""The executor that keeps worker actors busy and alive."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray

from deltamask import Update
from fedsim.config import Config
from fedsim.data import load_dataset
from fedsim.data.partition import make_partition
from fedsim.distributed._pool import Pool
from fedsim.distributed._queue import Queue, balanced_shards
from fedsim.distributed._worker import Worker
from fedsim.engine import (
    Broadcast,
    EvaluationSums,
    Executor,
    PhaseName,
    Prepared,
    Ready,
    Upload,
)
from fedsim.errors import WorkerLostError, in_words

_WAITING_BYTES = 2**30  # of uploads that wait for those before them
_WAITING_UNKNOWN = 4  # uploads a worker that may wait while the size of none is known


class StoredBroadcast(Broadcast):
    """A broadcast whose full message stays in Ray's store until a worker asks for it, as one that has no state does.

    Args:
        broadcast: with a delta.
    """

    def __init__(self, broadcast: Broadcast) -> None:
        kept = {"delta": broadcast.delta, "previous": broadcast.previous, "relay": None}
        self.__dict__.update(kept, _version=broadcast.version, _stored=[ray.put(broadcast.full)])

    @property
    def full(self) -> bytes:
        message: bytes = ray.get(self.__dict__["_stored"][0])
        return message

    @property
    def version(self) -> bytes:
        version: bytes = self.__dict__["_version"]
        return version


def start_workers(config: Config, names: Sequence[str | None]) -> list[Any]:
    """Worker actors, one a name (None: it needs none), which start while the caller goes on."""
    options = {
        "num_cpus": config.cluster.cpus_per_worker,
        "num_gpus": config.cluster.gpus_per_worker,
        "max_restarts": -1,
    }
    return [Worker.options(**options, name=name).remote(config) for name in names]  # type: ignore[attr-defined]


class RayExecutor(Executor):
    """Computes clients in worker actors.

    A worker computes the clients of its own shard, some at a time, and streams the results; one that has no more takes
    over from those that have most left. When a worker dies, or gives no client for ``cluster.client_seconds``, it is
    replaced, and what it still owed is computed again; where it cannot start again, the others go on without it.

    Args:
        config: the experiment; shards are balanced by the number of training samples of their clients.
        workers: the actors, as :func:`start_workers` starts them.
        interrupted: when set, by another thread, the call in progress raises :class:`Interrupted` soon.
    """

    def __init__(self, config: Config, workers: list[Any], interrupted: threading.Event | None = None) -> None:
        self._cluster, self._drop = config.cluster, config.on_client_error == "drop"
        partition = make_partition(load_dataset(config.data, config.seed), config.partition, config.seed)
        self._samples = partition.sizes()
        self._owner = balanced_shards(self._samples, len(workers))
        self._workers = workers
        self._pool = Pool(self._workers, config.cluster, interrupted or threading.Event())
        self._together = config.train.together if config.train is not None else 1
        self._largest: dict[PhaseName, int] = {}  # bytes of an upload
        self._ready: dict[int, Ready] = {}  # by worker
        self._published: tuple[Broadcast, Any] | None = None

    def prepare(self) -> Prepared:
        def submit(worker: int, items: list[int], singly: bool) -> Any:
            return self._workers[worker].prepare.options(num_returns="streaming").remote()

        queue = Queue([[worker] for worker in range(len(self._workers))], shared=False, whole=True)
        done: list[Prepared] = []
        for worker, value, _ in self._pool.collect(queue, submit, "the prefix features of worker {}"):
            if isinstance(value, Ready):
                self._ready[worker] = value
            else:
                done.append(value)
        warnings = dict.fromkeys(text for part in done for text in part.warnings)
        return Prepared(
            sum(part.images for part in done),
            max(part.corrupt for part in done),
            max(part.seconds for part in done),
            tuple(warnings),
        )

    def ready(self) -> Ready | None:
        return min(list(self._ready.values()), key=lambda ready: ready.images, default=None)

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
        owed = [[c for c, owner in zip(cohort, owners, strict=True) if owner == w] for w in range(len(self._workers))]
        queue = Queue(owed, shared=True, whole=len(self._workers) == 1, group=self._together, sizes=self._samples)

        def submit(worker: int, clients: list[int], singly: bool) -> Any:
            method = self._workers[worker].train.options(num_returns="streaming")
            known = {client: kept[client] for client in clients if client in kept}
            return method.remote(phase, round_index, clients, reference, known, singly)

        what, seconds = f"client {{}} of round {round_index}", self._cluster.client_seconds
        self._bound(queue, phase, 0)
        for client, result, attempt in self._pool.collect(queue, submit, what, seconds=seconds, lossy=self._drop):
            if isinstance(result, WorkerLostError):
                samples = int(self._samples[client])
                yield Upload(client, samples, Update(b""), None, 0.0, 0.0, False, attempt, in_words(result))
            else:
                upload, payload = result
                self._bound(queue, phase, len(payload))
                yield replace(upload, update=replace(upload.update, payload=payload.data), attempt=attempt)

    def evaluate(
        self, phase: PhaseName, round_index: int, chunks: int, broadcast: Broadcast
    ) -> list[dict[str, EvaluationSums]]:
        reference = self._publish(broadcast)
        queue = Queue(
            [range(w, chunks, len(self._workers)) for w in range(len(self._workers))], shared=True, whole=True
        )

        def submit(worker: int, pieces: list[int], singly: bool) -> Any:
            method = self._workers[worker].evaluate.options(num_returns="streaming")
            return method.remote(phase, round_index, pieces, reference)

        what = f"piece {{}} of the evaluation of round {round_index}"
        seconds = self._cluster.client_seconds
        sums = {piece: values for piece, values, _ in self._pool.collect(queue, submit, what, seconds=seconds)}
        return [sums[chunk] for chunk in range(chunks)]

    def close(self) -> None:
        self._pool.close()

    def _bound(self, queue: Queue, phase: PhaseName, size: int) -> None:
        """Bound the uploads that wait for the turn of others before them, by the largest one of the phase so far."""
        self._largest[phase] = max(self._largest.get(phase, 0), size)
        if self._largest[phase]:
            queue.window = max(len(self._workers), _WAITING_BYTES // self._largest[phase])
        else:
            queue.window = _WAITING_UNKNOWN * len(self._workers)

    def _publish(self, broadcast: Broadcast) -> Any:
        """A reference to a broadcast; the one that was evaluated last is the one that is trained from next."""
        if self._published is None or self._published[0] is not broadcast:
            stored = broadcast if broadcast.delta is None else StoredBroadcast(broadcast)
            self._published = (broadcast, ray.put(stored))
        return self._published[1]
