"""The clients of one worker, and all that is computed for them: prefix features, local training, evaluation."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
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
from fedsim.methods import HEADS, METHODS
from fedsim.methods.base import ClientTask, Upload
from fedsim.models import build_model

#: Which method a round runs: the one that fits the head, in round 0, or the one of the experiment.
Stage = Literal["head", "method"]

#: Test samples in one piece of evaluation; fixed, so that results do not depend on who evaluates what.
EVALUATION_CHUNK = 128
_CACHE_BYTES = 2 << 30


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


class Shard:
    """A set of clients with their samples and one model. Knows nothing of Ray.

    Args:
        config: the experiment; dataset, partition and model follow from it.
        clients: the clients whose training samples are kept, or None for all.
    """

    def __init__(self, config: Config, clients: np.ndarray | None = None) -> None:
        self._config = config
        dataset = load_dataset(config.data)
        partition = make_partition(dataset, config.data, config.seed)
        self._client_ids = np.arange(partition.clients) if clients is None else np.sort(clients)
        sizes = partition.sizes()[self._client_ids]
        self._offsets = np.concatenate([[0], np.cumsum(sizes)])
        self._train = dataset.train().take(np.concatenate([partition.indices(int(k)) for k in self._client_ids]))
        self._test = dataset.test()
        device = "cuda" if config.cluster.gpus_per_worker else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise ResourceError("cluster.gpus_per_worker: found above 0, allowed: 0, since this torch sees no CUDA GPU")
        self._model = build_model(config.model, len(dataset.classes), device)
        self._methods = {
            "head": HEADS.get(config.model.head).Client(config, self._model),
            "method": METHODS.get(config.method.name).Client(config, self._model),
        }
        self._features = _FeatureCache(_CACHE_BYTES)

    def train(self, stage: Stage, round_index: int, clients: Sequence[int], broadcast: bytes) -> Iterator[ClientResult]:
        """Train clients of this shard from a broadcast, one after the other."""
        method = self._methods[stage]
        state = method.receive(broadcast)
        for client in clients:
            position = int(np.searchsorted(self._client_ids, client))
            split = self._train.take(np.arange(self._offsets[position], self._offsets[position + 1]))
            task = ClientTask(
                round=round_index,
                client=client,
                features=self._cached_features(("train", client), split.images),
                labels=torch.from_numpy(split.labels).to(self._model.device),
            )
            yield ClientResult(client, len(split), method.train(state, task))

    @torch.no_grad()
    def evaluate(
        self, stage: Stage, round_index: int, chunks: Sequence[int], broadcast: bytes
    ) -> list[dict[str, Score]]:
        """Score the models of a broadcast on pieces of the test split, each of :data:`EVALUATION_CHUNK` samples."""
        method = self._methods[stage]
        scores: list[dict[str, Score]] = [{} for _ in chunks]
        for name, prepare in method.evaluations(method.receive(broadcast), round_index).items():
            forward = prepare()
            for chunk, row in zip(chunks, scores, strict=True):
                split = self._test.take(evaluation_chunk(len(self._test), chunk))
                labels = torch.from_numpy(split.labels).to(self._model.device)
                logits = forward(self._cached_features(("test", chunk), split.images))
                correct = int((logits.argmax(1) == labels).sum())
                row[name] = Score(len(split), correct, float(F.cross_entropy(logits, labels, reduction="sum")))
        return scores

    def _cached_features(self, key: Any, images: np.ndarray) -> Tensor:
        features = self._features.get(key)
        if features is None:
            features = self._model.prefix_features(images)
            self._features.put(key, features)
        return features


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


class _FeatureCache:
    """Prefix features of the most recently used clients, bounded in bytes."""

    def __init__(self, capacity: int) -> None:
        self._capacity, self._used = capacity, 0
        self._entries: OrderedDict[Any, Tensor] = OrderedDict()

    def get(self, key: Any) -> Tensor | None:
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, key: Any, features: Tensor) -> None:
        self._entries[key] = features
        self._used += features.nbytes
        while self._used > self._capacity and len(self._entries) > 1:
            self._used -= self._entries.popitem(last=False)[1].nbytes
