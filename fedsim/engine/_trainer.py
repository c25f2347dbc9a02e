"""The local trainer: what computes clients in one process, with prefix features, local training and evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from deltamask import Update, parallel, stream_key
from deltamask.uploads import add_weight
from fedsim.config import Config
from fedsim.data import load_dataset
from fedsim.data.partition import make_partition
from fedsim.engine._calibration import temperatures
from fedsim.engine._client_states import ClientStates
from fedsim.engine._device import keep_freed_memory, open_device
from fedsim.engine._evaluation import evaluated, evaluation_pieces
from fedsim.engine._faults import describe, out_of_memory
from fedsim.engine._held_out import HeldOutSamples
from fedsim.engine._output import last, named_output
from fedsim.engine._phases import make_clients, make_model
from fedsim.engine._types import Broadcast, EvaluationSums, HeldOut, PhaseName, Prepared, Ready, Upload
from fedsim.errors import FedsimError
from fedsim.features import PrefixFeatures, Views
from fedsim.methods import ClientTask, MethodClient, Trained
from fedsim.world import attacked, damaged, is_hostile


class LocalTrainer:
    """Computes any client of an experiment, one after the other. Knows nothing of Ray.

    Args:
        config: the experiment; dataset, partition and model follow from it.
    """

    def __init__(self, config: Config) -> None:
        keep_freed_memory()
        dataset = load_dataset(config.data, config.seed)
        self._partition = make_partition(dataset, config.partition, config.seed)
        self._pieces = evaluation_pieces(dataset, config.evaluate.batch_size)
        self._states = ClientStates(config.output, config.run_id)
        self._temperatures = temperatures(config.head)
        self._evaluated = {"mean", *config.evaluate.also}
        self._held_out, self._last_round = HeldOutSamples(config), config.rounds
        self._together = config.train.together if config.train is not None else 1
        self._compiles = config.train is not None and config.train.compile
        self._world, self._seed = config.world, config.seed
        self._precision = config.train.precision if config.train is not None else "float32"
        self._model = make_model(config, len(dataset.classes), open_device(config))
        self._clients = make_clients(config, self._model)
        self._labels = {"train": dataset.train.labels, "test": dataset.test.labels}
        self._views = Views(config, len(dataset.train))
        train = PrefixFeatures(config, self._model, dataset.train.images, all_needed=False, views=self._views)
        test = PrefixFeatures(config, self._model, dataset.test.images, beside=train)
        self._features = {"train": train, "test": test}
        self._prepared: Prepared | None = None
        self._received: tuple[PhaseName, bytes, Any] | None = None  # the last broadcast's phase, version and state

    def prepare(self) -> Prepared:
        """Compute the prefix features that this node lacks, once."""
        if self._prepared is None:
            started = time.perf_counter()
            built = [features.prepare() for features in self._features.values()]
            warnings = [text for features in self._features.values() for text in features.warnings]
            self._prepared = Prepared(
                sum(part.rows for part in built),
                sum(len(part.corrupt) for part in built),
                time.perf_counter() - started,
                tuple(warnings),
            )
            if self._compiles:
                self._clients["method"].warm_up(self._features["train"](np.arange(1)))
        return self._prepared

    def ready(self) -> Ready | None:
        """Images whose prefix features are there; None where they are not kept, or computed when they are needed."""
        parts = [part for features in self._features.values() if (part := features.ready()) is not None]
        return Ready(*map(sum, zip(*parts, strict=True))) if parts else None

    def train(
        self,
        phase: PhaseName,
        round_index: int,
        clients: Sequence[int],
        broadcast: Broadcast,
        kept: Mapping[int, int],
    ) -> Iterator[Upload]:
        """Train clients from a broadcast and from what some of them kept, one after the other.

        ``kept`` has the rounds that clients last kept something of.

        Raises:
            ResourceError: the memory ran out.
        """
        self.prepare()
        method, state = self._clients[phase], self._receive(phase, broadcast)
        size = self._together if phase == "method" else 1
        for start in range(0, len(clients), size):
            group = clients[start : start + size]
            rows = [self._rows(phase, round_index, client) for client in group]
            self._features["train"].complete(np.concatenate([part for pair in rows for part in pair]))
            pairs = zip(group, rows, strict=True)
            tasks = [self._task(round_index, client, taken, kept) for client, (taken, _) in pairs]
            with out_of_memory(f"client {group[0]} of round {round_index}"):
                if size > 1 and (uploads := self._train_together(method, state, tasks)):
                    yield from uploads
                    continue
                for task in tasks:
                    yield self._train(method, state, task, alone=size == 1)

    def _rows(self, phase: PhaseName, round_index: int, client: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the training features: those that a client trains on in a round, and those that it holds out."""
        rows, held_out = self._held_out.split(client, self._partition.indices(client))
        return self._views.rows(rows, round_index, client) if phase == "method" else rows, held_out

    def _task(self, round_index: int, client: int, rows: np.ndarray, kept: Mapping[int, int]) -> ClientTask:
        features, labels = self.samples("train", rows)
        state_before = self._states.read(client, kept[client]) if client in kept else None
        return ClientTask(round_index, client, features, labels, state_before)

    def _train_together(self, method: MethodClient[Any], state: Any, tasks: Sequence[ClientTask]) -> list[Upload]:
        """Uploads of clients that are trained at once; none where one fails, which one by one will tell."""
        started = time.perf_counter()
        try:
            with named_output(f"clients {tasks[0].client} to {tasks[-1].client}") as printed:
                trained = method.train_together(state, tasks)
                seconds = (time.perf_counter() - started) / len(tasks)
                uploads = [self._encoded(method, state, *pair, seconds) for pair in zip(tasks, trained, strict=True)]
            return [replace(uploads[0], output=last(printed)), *uploads[1:]]
        except (FedsimError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception:
            return []

    def _train(self, method: MethodClient[Any], state: Any, task: ClientTask, *, alone: bool) -> Upload:
        started = time.perf_counter()
        try:
            with named_output(f"client {task.client}") as printed:
                trained = method.train(state, task) if alone else method.train_together(state, [task])[0]
                upload = self._encoded(method, state, task, trained, time.perf_counter() - started)
            return replace(upload, output=last(printed)) if printed else upload
        except (FedsimError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # of a method, often somebody's own
            seconds, samples = time.perf_counter() - started, len(task.labels)
            output = last(printed)
            told = describe(error) + (f"\nprinted before:\n{output}" if output else "")
            return Upload(task.client, samples, Update(b""), None, seconds, 0.0, error=told, output=output)

    def _encoded(
        self, method: MethodClient[Any], state: Any, task: ClientTask, trained: Trained, train_seconds: float
    ) -> Upload:
        if trained.loss is not None and not math.isfinite(trained.loss):
            raise FloatingPointError(f"the loss is {trained.loss}: training diverged; train.lr may be too large")
        held_out = self._evaluate_held_out(method, state, task, trained)
        encoding = time.perf_counter()
        value, world = trained.value, self._world
        key = stream_key(self._seed, "attack", task.round, task.client)
        # Nobody is hostile in the head's round.
        hostile = method is self._clients["method"] and is_hostile(world, self._seed, task.client)
        if hostile and world.learned_attack is not None:
            value = method.attacked(value, state, lambda change_d: attacked(change_d, world, key))
        update = method.encode(value, state, task)
        kept = method.keep(value, update, task)
        if kept is not None:
            self._states.write(task.client, task.round, kept)
        samples = len(task.labels)
        if method.params.weighted:
            update = replace(update, payload=add_weight(update.payload, samples))
        if hostile and world.attack == "damaged":
            update = replace(update, payload=damaged(update.payload, key))
        seconds = time.perf_counter() - encoding
        kept_some = kept is not None
        return Upload(task.client, samples, update, trained.loss, train_seconds, seconds, kept_some, held_out=held_out)

    def _evaluate_held_out(
        self, method: MethodClient[Any], state: Any, task: ClientTask, trained: Trained
    ) -> HeldOut | None:
        """Evaluate models on what the client holds out, where that is due and it does."""
        if not self._held_out.due(task.round):
            return None
        _, rows = self._held_out.split(task.client, self._partition.indices(task.client))
        if not len(rows):
            return None
        return self._held_out.evaluate(method, state, task, trained, *self.samples("train", rows))

    @torch.no_grad()
    def evaluate(
        self, phase: PhaseName, round_index: int, chunks: Sequence[int], broadcast: Broadcast
    ) -> list[dict[str, EvaluationSums]]:
        """Evaluate the models of a broadcast on some of the :func:`evaluation_pieces`, by their positions.

        Validation samples are for the model to keep alone.
        """
        self.prepare()
        method = self._clients[phase]
        sums: list[dict[str, EvaluationSums]] = [{} for _ in chunks]
        grid, precision = (self._temperatures, "float32") if phase == "head" else ((), self._precision)
        last = round_index == self._last_round
        for name, prepare in method.evaluations(self._receive(phase, broadcast), round_index).items():
            if name not in self._evaluated:
                continue
            forward = prepare()
            for chunk, row in zip(chunks, sums, strict=True):
                piece = self._pieces[chunk]
                if name != "mean" and piece.split != "test":
                    continue
                features, labels = self.samples("test" if piece.split == "test" else "train", piece.rows)
                by_class = last and name == "mean" and piece.split == "test"
                row[name] = evaluated(forward, features, labels, precision, grid, by_class=by_class)
        return sums

    def _receive(self, phase: PhaseName, broadcast: Broadcast) -> Any:
        """The state of a broadcast, decoded once; by its delta where the version before it is here."""
        method = self._clients[phase]
        received, version, state = self._received or (None, None, None)
        if (received, version) != (phase, broadcast.version):
            self._received = None  # a delta that fails may leave it half changed
            if broadcast.delta is not None and (received, version) == (phase, broadcast.previous):
                state = method.receive_delta(broadcast.delta, state)
            else:
                state = method.receive(broadcast.full)
            self._received = (phase, broadcast.version, state)
        return state

    def samples(self, split: Literal["train", "test"], rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Prefix features and labels of some samples, or of views of them, on the model's device."""
        labels = torch.from_numpy(self._labels[split][rows % len(self._labels[split])]).to(self._model.device)
        return self._features[split](rows), labels


def set_threads(cpus: float) -> None:
    """Compute with as many threads as CPUs are asked for, at least one."""
    threads = max(1, int(cpus))
    parallel.set_threads(threads)
    torch.set_num_threads(threads)
