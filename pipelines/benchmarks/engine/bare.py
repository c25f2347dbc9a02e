"""Federated averaging as a plain PyTorch loop in one or more processes: what any simulator is measured against.

It has the same network, samples, batches and cached prefix features as the simulator's run, and nothing else: no
serialised messages, no results, no checkpoints, no faults. Each process trains some of the clients, one after the
other, and evaluates some of the test samples.
"""

from __future__ import annotations

import itertools
import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.pool import Pool
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deltamask import stream_key
from fedsim.config import Config
from fedsim.data import load_dataset
from fedsim.data.partition import make_partition
from fedsim.features import PrefixFeatures
from fedsim.models import build_model


class Process:
    """The work as one process holds it.

    Args:
        config: the run of the simulator.

    Attributes:
        network: prefix features to logits.
        trained: its parameters that are trained.
        partition: samples of clients.
        features, labels: of the splits ``train`` and ``test``.
    """

    def __init__(self, config: Config) -> None:
        torch.set_num_threads(1)
        dataset = load_dataset(config.data, config.seed)
        model = build_model(config.model, len(dataset.classes), train_head=True)
        self.config, self.network = config, model.network
        names = set(model.masked_names)
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name in names)
        self.trained = [p for p in self.network.parameters() if p.requires_grad]
        self.partition = make_partition(dataset, config.partition, config.seed)
        splits = {"train": dataset.train, "test": dataset.test}
        self.features, self.labels = {}, {}
        for name, split in splits.items():
            features = PrefixFeatures(config, model, split.images, all_needed=name == "test")
            features.prepare()
            self.features[name] = features(np.arange(len(split)))
            self.labels[name] = torch.from_numpy(split.labels)

    def load(self, weights: Sequence[Tensor]) -> None:
        """Set what is trained."""
        for parameter, value in zip(self.trained, weights, strict=True):
            parameter.data.copy_(value)

    def order(self, round_index: int, client: int, epoch: int) -> Tensor:
        """The order of a client's samples in an epoch."""
        key = stream_key(self.config.seed, "batches", round_index, client, epoch)
        rng = np.random.Generator(np.random.Philox(key=key))
        return torch.from_numpy(rng.permutation(len(self.partition.indices(client))))

    def train(self, round_index: int, client: int, weights: Sequence[Tensor]) -> tuple[int, list[Tensor]]:
        """A client's number of samples and its weights after local training."""
        train = self.config.train
        assert train is not None
        self.load(weights)
        rows = torch.from_numpy(self.partition.indices(client))
        features, labels = self.features["train"][rows], self.labels["train"][rows]
        optimizer = optimizer_of(self.config)(self.trained, lr=train.lr)
        for epoch in range(train.epochs):
            for chosen in self.order(round_index, client, epoch).split(train.batch_size):
                loss = F.cross_entropy(self.network(features[chosen]), labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return len(rows), [parameter.detach().clone() for parameter in self.trained]

    @torch.no_grad()
    def evaluate(self, weights: Sequence[Tensor], start: int, stop: int) -> int:
        """Test samples that are classified correctly, of some."""
        self.load(weights)
        parts = torch.arange(start, stop).split(self.config.evaluate.batch_size)
        features, labels = self.features["test"], self.labels["test"]
        return sum(int((self.network(features[part]).argmax(1) == labels[part]).sum()) for part in parts)


def optimizer_of(config: Config) -> type[torch.optim.Adam] | type[torch.optim.SGD]:
    """The optimiser of clients, with its defaults."""
    assert config.train is not None
    return torch.optim.Adam if config.train.optimizer == "adam" else torch.optim.SGD


def cohort(config: Config, round_index: int) -> list[int]:
    """The clients of a round, those of the simulator's run."""
    rng = np.random.Generator(np.random.Philox(key=stream_key(config.seed, "cohort", round_index)))
    chosen: list[int] = np.sort(rng.choice(config.partition.clients, config.cohort_size, replace=False)).tolist()
    return chosen


_process: Process | None = None


def _open(config: Config) -> None:
    global _process
    _process = Process(config)


def _train(arguments: tuple[int, list[int], list[Tensor]]) -> list[tuple[int, list[Tensor]]]:
    assert _process is not None
    round_index, clients, weights = arguments
    return [_process.train(round_index, client, weights) for client in clients]


def _evaluate(arguments: tuple[list[Tensor], int, int]) -> int:
    assert _process is not None
    return _process.evaluate(*arguments)


def run(config: Config, processes: int) -> list[dict[str, Any]]:
    """Train ``config.rounds`` rounds: the seconds and the test accuracy of each."""
    _open(config)
    assert _process is not None
    weights = [parameter.detach().clone() for parameter in _process.trained]
    tests = len(_process.labels["test"])
    bounds = [tests * part // processes for part in range(processes + 1)]
    rounds = []
    with _pool(config, processes) as pool:
        for index in range(1, config.rounds + 1):
            started = time.perf_counter()
            chosen = cohort(config, index)
            shards = [chosen[start::processes] for start in range(processes)]
            trained = pool.map(_train, [(index, shard, weights) for shard in shards], chunksize=1)
            total = sum(samples for part in trained for samples, _ in part)
            weights = [torch.zeros_like(value) for value in weights]
            for samples, values in (one for part in trained for one in part):
                for mean, value in zip(weights, values, strict=True):
                    mean.add_(value, alpha=samples / total)
            pieces = [(weights, start, stop) for start, stop in itertools.pairwise(bounds)]
            correct = sum(pool.map(_evaluate, pieces, chunksize=1))
            rounds.append({"round": index, "seconds": time.perf_counter() - started, "accuracy": correct / tests})
    return rounds


class _Here:
    """A pool of no process but this one."""

    def map(self, function: Any, items: Sequence[Any], chunksize: int = 1) -> list[Any]:
        return [function(item) for item in items]

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _pool(config: Config, processes: int) -> Pool | _Here:
    if processes == 1:
        return _Here()
    return multiprocessing.get_context("spawn").Pool(processes, _open, (config,))
