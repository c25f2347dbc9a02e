"""Federated linear probing: only the classifier head is trained and sent, float32, averaged by samples.

It is a method of its own and, for one round, the default way in which other methods get the head that they freeze.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from fedsim.config import Config
from fedsim.methods.base import Absorbed, ClientTask, Method, Upload
from fedsim.methods.head import HeadClient, HeadServer, head_shapes
from fedsim.methods.training import train_steps
from fedsim.methods.wire import pack_tensors, unpack_tensors
from fedsim.models import TaskModel


class _Client(HeadClient):
    def train(self, state: Any, task: ClientTask) -> Upload:
        started = time.perf_counter()
        self.model.load_head(state)
        embeddings = self.model.embed(task.features)
        head = self.model.head.requires_grad_(True)
        optimizer = torch.optim.Adam(head.parameters(), lr=self.config.model.head_lr)
        batches = task.batches(self.config, self.config.model.head_epochs, embeddings)
        train_loss = train_steps(optimizer, batches, lambda x, step: head(x))
        head.requires_grad_(False)
        trained = time.perf_counter()
        payload = pack_tensors(self.model.head_state())
        return Upload(payload, train_loss, trained - started, time.perf_counter() - trained)


class _Server(HeadServer):
    def __init__(self, config: Config, model: TaskModel) -> None:
        super().__init__(config, model)
        self._begin()

    def _begin(self) -> None:
        self._samples = 0
        self._sums = {name: np.zeros(shape) for name, shape in head_shapes(self.model).items()}

    def absorb(self, round_index: int, client: int, samples: int, payload: bytes) -> Absorbed:
        started = time.perf_counter()
        head = unpack_tensors(payload, head_shapes(self.model))
        decode_seconds = time.perf_counter() - started
        for name, array in head.items():
            self._sums[name] += samples * array.astype(np.float64)
        self._samples += samples
        return Absorbed(decode_seconds)

    def finish_round(self) -> None:
        self.model.load_head({name: (total / self._samples).astype(np.float32) for name, total in self._sums.items()})
        self._begin()


class LinearProbe(Method):
    """FedAvg of the head alone; ``model.head_epochs`` and ``model.head_lr`` are its local training."""

    name = "linear-probe"
    summary = "only the classifier head, float32, averaged by samples"
    Client, Server = _Client, _Server
