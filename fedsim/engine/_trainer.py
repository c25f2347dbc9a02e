"""The clients of one worker, and all that is computed for them: prefix features, local training, evaluation."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numba
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deltamask import uniform_bits
from fedsim.config import Config
from fedsim.data import load_dataset, make_partition
from fedsim.errors import ResourceError
from fedsim.features._prefix import PrefixFeatures
from fedsim.methods import HEADS, METHODS
from fedsim.methods.base import Broadcast, ClientTask, Upload
from fedsim.models import build_model

#: Which method a round runs: the one that fits the head, in round 0, or the one of the experiment.
Stage = Literal["head", "method"]

#: Test samples in one piece of evaluation; fixed, so that results do not depend on who evaluates what.
EVALUATION_CHUNK = 128


@dataclass(frozen=True)
class ClientResult:
    """One client's upload in one round.

    Attributes:
        client: index of the client.
        samples: its number of training samples.
        upload: what it sent and measured.
        attempt: 1, or more when it was computed again because a worker was lost.
    """

    client: int
    samples: int
    upload: Upload
    attempt: int = 1


@dataclass(frozen=True)
class Score:
    """Correct predictions and summed cross-entropy (nats) over some test samples."""

    samples: int
    correct: int
    loss: float


@dataclass(frozen=True)
class Prepared:
    """What a worker did before the first round.

    Attributes:
        images: images whose prefix features it computed itself.
        corrupt: undecodable images of both splits, whoever found them.
        seconds: wall time that this took, with waiting for other processes that were at it.
        warnings: what was put up with.
    """

    images: int
    corrupt: int
    seconds: float
    warnings: tuple[str, ...]


class Shard:
    """A set of clients with their samples and one model. Knows nothing of Ray.

    Args:
        config: the experiment; dataset, partition and model follow from it, so that any shard can serve any client.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        dataset = load_dataset(config.data)
        self._partition = make_partition(dataset.train, config.data, config.seed)
        device = "cuda" if config.cluster.gpus_per_worker else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise ResourceError("cluster.gpus_per_worker: found above 0, allowed: 0, since this torch sees no CUDA GPU")
        self._model = build_model(config.model, len(dataset.classes), device)
        self._methods = {
            "head": HEADS.get(config.model.head).client(config, self._model),
            "method": METHODS.get(config.method.name).client(config, self._model),
        }
        self._labels = {"train": dataset.train.labels, "test": dataset.test.labels}
        self._features = {
            "train": PrefixFeatures(config, self._model, dataset.train.images),
            "test": PrefixFeatures(config, self._model, dataset.test.images),
        }
        self._prepared: Prepared | None = None
        self._received: tuple[bytes, Any] | None = None  # the last broadcast's name and state

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
        return self._prepared

    def train(
        self,
        stage: Stage,
        round_index: int,
        clients: Sequence[int],
        broadcast: Broadcast,
        memories: Mapping[int, np.ndarray],
    ) -> Iterator[ClientResult]:
        """Train clients from a broadcast and from what some of them remember, one after the other."""
        self.prepare()
        method = self._methods[stage]
        state = self._receive(stage, broadcast)
        for client in clients:
            rows = self._partition.indices(client)
            features, labels = self._samples("train", rows)
            task = ClientTask(round_index, client, features, labels, memories.get(client))
            yield ClientResult(client, len(rows), method.train(state, task))

    @torch.no_grad()
    def evaluate(
        self, stage: Stage, round_index: int, chunks: Sequence[int], broadcast: Broadcast
    ) -> list[dict[str, Score]]:
        """Score the models of a broadcast on pieces of the test split, each of :data:`EVALUATION_CHUNK` samples."""
        self.prepare()
        method = self._methods[stage]
        scores: list[dict[str, Score]] = [{} for _ in chunks]
        for name, prepare in method.evaluations(self._receive(stage, broadcast), round_index).items():
            forward = prepare()
            for chunk, row in zip(chunks, scores, strict=True):
                features, labels = self._samples("test", evaluation_chunk(len(self._labels["test"]), chunk))
                logits = forward(features)
                correct = int((logits.argmax(1) == labels).sum())
                row[name] = Score(len(labels), correct, float(F.cross_entropy(logits, labels, reduction="sum")))
        return scores

    def _receive(self, stage: Stage, broadcast: Broadcast) -> Any:
        """The state of a broadcast, decoded once; by its update where the state before it is here."""
        method = self._methods[stage]
        name, state = self._received or (None, None)
        if name != broadcast.name:
            self._received = None  # an update that fails may leave it half changed
            if broadcast.update is not None and name == broadcast.base:
                state = method.receive_update(broadcast.update, state)
            else:
                state = method.receive(broadcast.full)
            self._received = (broadcast.name, state)
        return state

    def _samples(self, split: Literal["train", "test"], rows: np.ndarray) -> tuple[Tensor, Tensor]:
        labels = torch.from_numpy(self._labels[split][rows]).to(self._model.device)
        return self._features[split](rows), labels


def evaluation_chunks(test_samples: int) -> int:
    """Number of pieces that the test split is evaluated in."""
    return -(-test_samples // EVALUATION_CHUNK)


def evaluation_chunk(test_samples: int, chunk: int) -> np.ndarray:
    """Test samples of one piece."""
    return np.arange(chunk * EVALUATION_CHUNK, min((chunk + 1) * EVALUATION_CHUNK, test_samples))


def set_threads(cpus: float) -> None:
    """Compute with as many threads as CPUs are asked for, at least one."""
    threads = max(1, int(cpus))
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    uniform_bits(0, 1)  # numba starts its threads at the first kernel, and then resets the number that torch uses
    torch.set_num_threads(threads)
