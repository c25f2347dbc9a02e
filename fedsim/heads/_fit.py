"""A Gaussian head: class means and one covariance, summed over clients; nothing is trained.

The head of FiT (Shysheya et al., "FiT: Parameter Efficient Few-shot Transfer Learning for Personalized and Federated
Image Classification", ICLR 2023): linear discriminant analysis, which is a linear layer.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from fedsim.config import Config
from fedsim.methods.base import Absorbed, ClientTask, Method, Upload
from fedsim.methods.head import HeadClient, HeadServer
from fedsim.methods.wire import pack_tensors, unpack_tensors
from fedsim.models import TaskModel

_PSEUDO_COUNT = 0.5  # of a class that no client has


def _shapes(model: TaskModel) -> dict[str, tuple[int, ...]]:
    classes, size = model.head.weight.shape
    return {"counts": (classes,), "sums": (classes, size), "squares": (size * (size + 1) // 2,)}


class _Client(HeadClient):
    def train(self, state: Any, task: ClientTask) -> Upload:
        started = time.perf_counter()
        embeddings = self.model.embed(task.features).double()
        classes, size = self.model.head.weight.shape
        member = F.one_hot(task.labels, classes).double()
        upper = torch.triu_indices(size, size, device=embeddings.device)
        statistics = {
            "counts": member.sum(0),
            "sums": member.T @ embeddings,
            "squares": (embeddings.T @ embeddings)[upper[0], upper[1]],
        }
        computed = time.perf_counter()
        payload = pack_tensors({name: value.float().cpu().numpy() for name, value in statistics.items()})
        return Upload(payload, None, computed - started, time.perf_counter() - computed)


class _Server(HeadServer):
    def __init__(self, config: Config, model: TaskModel) -> None:
        super().__init__(config, model)
        self._begin()

    def _begin(self) -> None:
        self._sums = {name: np.zeros(shape) for name, shape in _shapes(self.model).items()}

    def absorb(self, round_index: int, client: int, samples: int, payload: bytes) -> Absorbed:
        started = time.perf_counter()
        statistics = unpack_tensors(payload, _shapes(self.model))
        decode_seconds = time.perf_counter() - started
        for name, array in statistics.items():
            self._sums[name] += array
        return Absorbed(decode_seconds)

    def finish_round(self) -> None:
        counts, sums = self._sums["counts"], self._sums["sums"]
        size = sums.shape[1]
        squares = np.zeros((size, size))
        squares[np.triu_indices(size)] = self._sums["squares"]
        squares += np.triu(squares, 1).T
        means = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], sums.sum(0) / counts.sum())
        covariance = (squares - (means.T * counts) @ means) / counts.sum()
        shrinkage = self.config.model.head_shrinkage
        covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / size * np.eye(size)
        weight = np.linalg.solve(covariance, means.T).T
        bias = np.log(np.maximum(counts, _PSEUDO_COUNT) / counts.sum()) - 0.5 * (weight * means).sum(1)
        self.model.load_head({"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)})
        self._begin()


class Fit(Method):
    """Gaussian (LDA) head from sufficient statistics; ``model.head_shrinkage`` pulls its covariance to the identity."""

    name = "fit"
    summary = "Gaussian head from class means and a shared covariance, summed over clients"
    Client, Server = _Client, _Server
