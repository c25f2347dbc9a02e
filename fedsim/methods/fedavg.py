"""Federated averaging of the masked blocks' weights, float32: full fine-tuning, and the accuracy to reach."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import deltamask as dm
from fedsim.config import Config
from fedsim.methods.base import Absorbed, ClientTask, Forward, MeanLoss, Method, MethodClient, MethodServer, Upload
from fedsim.methods.head import head_shapes
from fedsim.methods.optimizers import make_optimizer
from fedsim.models import TaskModel
from fedsim.wire import pack_tensors, unpack_tensors


class _Client(MethodClient):
    def __init__(self, config: Config, model: TaskModel) -> None:
        super().__init__(config, model)
        self._net = dm.FlatNetwork(model.network, model.masked_names).to(model.device)

    def receive(self, broadcast: bytes) -> Any:
        return unpack_tensors(broadcast, {"weights": (self.model.dimension,), **head_shapes(self.model)})

    def train(self, state: Any, task: ClientTask) -> Upload:
        started = time.perf_counter()
        self.model.load_head(state)
        weights_d = nn.Parameter(torch.tensor(state["weights"], device=self.model.device))
        optimizer = make_optimizer(self.config.train, [weights_d])
        losses = MeanLoss()
        for x, y in task.batches(self.config, self.config.train.epochs):
            loss = F.cross_entropy(self._net(x, weights_d), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.add(loss)
        update_d = weights_d.detach().cpu().numpy() - state["weights"]
        train_loss = losses.value()
        trained = time.perf_counter()
        payload = pack_tensors({"update": update_d})
        return Upload(payload, train_loss, trained - started, time.perf_counter() - trained)

    def evaluations(self, state: Any, round_index: int) -> dict[str, Callable[[], Forward]]:
        def mean() -> Forward:
            self.model.load_head(state)
            weights_d = torch.tensor(state["weights"], device=self.model.device)
            return lambda features: self._net(features, weights_d)

        return {"mean": mean}


class _Server(MethodServer):
    def __init__(self, config: Config, model: TaskModel) -> None:
        super().__init__(config, model)
        self._weights_d = dm.FlatNetwork(model.network, model.masked_names).weights_d.cpu().numpy()
        self._begin()

    def _begin(self) -> None:
        self._sum_d, self._samples = np.zeros(self.model.dimension), 0

    def broadcast(self) -> bytes:
        return pack_tensors({"weights": self._weights_d, **self.model.head_state()})

    def absorb(self, round_index: int, client: int, samples: int, payload: bytes) -> Absorbed:
        started = time.perf_counter()
        update_d = unpack_tensors(payload, {"update": (self.model.dimension,)})["update"]
        decode_seconds = time.perf_counter() - started
        self._sum_d += samples * update_d.astype(np.float64)
        self._samples += samples
        return Absorbed(decode_seconds)

    def finish_round(self) -> None:
        self._weights_d = self._weights_d + (self._sum_d / self._samples).astype(np.float32)
        self._begin()

    def state(self) -> dict[str, np.ndarray]:
        return {"weights": self._weights_d}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._weights_d = state["weights"].copy()


class FedAvg(Method):
    """McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data" (AISTATS 2017)."""

    name = "fedavg"
    summary = "fine-tuning of the masked blocks' weights, float32, averaged by samples"
    Client, Server = _Client, _Server
    train_defaults: ClassVar[Mapping[str, Any]] = {"lr": 1e-3}
