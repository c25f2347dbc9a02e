"""Heads in closed form: clients send sums over their embeddings, from which the server computes the head.

The sums are those of all samples, however they are split, so the head is the same for every partition, to rounding.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from deltamask import stream_key
from fedsim.errors import ConfigError
from fedsim.methods.base import ClientTask, Trained
from fedsim.methods.head import HeadClient, HeadServer
from fedsim.models import TaskModel
from fedsim.settings import Experiment, PhaseSettings

S = TypeVar("S", bound=PhaseSettings)


def projection(params: Any, experiment: Experiment, size: int) -> np.ndarray | None:
    """The matrix of shape ``(size, width)`` that embeddings are multiplied with, which both sides draw from the seed.

    ``params.projection`` is its width, its entries are N(0, 1 / size). None where nothing is projected, as the width is
    that of the embeddings or more.
    """
    width: int | None = params.projection
    if width is None or width >= size:
        return None
    rng = np.random.Generator(np.random.Philox(key=stream_key(experiment.seed, "projection")))
    return rng.normal(0, size**-0.5, (size, width))


class StatisticsClient(HeadClient[S]):
    """Sends the number of samples of each class, their class sums, and the upper triangle of the Gram matrix.

    Of embeddings of shape ``(n, size)``: float32 of shapes ``(classes,)``, ``(classes, size)`` and
    ``(size * (size + 1) / 2,)``.
    """

    def __init__(self, params: S, experiment: Experiment, model: TaskModel) -> None:
        super().__init__(params, experiment, model)
        matrix = projection(params, experiment, model.backbone.embedding_size)
        self._projection = None if matrix is None else torch.from_numpy(matrix).to(model.device)

    def train(self, state: Any, task: ClientTask) -> Trained:
        embeddings = self.model.embed(task.features).double()
        if self._projection is not None:
            embeddings = embeddings @ self._projection
        member = F.one_hot(task.labels, len(self.model.head.weight)).double()
        size = embeddings.shape[1]
        upper = torch.triu_indices(size, size, device=embeddings.device)
        statistics = {
            "counts": member.sum(0),
            "sums": member.T @ embeddings,
            "squares": (embeddings.T @ embeddings)[upper[0], upper[1]],
        }
        return Trained({name: value.float().cpu().numpy() for name, value in statistics.items()})


class StatisticsServer(HeadServer[S]):
    """Adds the sums up; a subclass solves for a head of the embeddings as they were summed."""

    def __init__(self, params: S, experiment: Experiment, model: TaskModel) -> None:
        if model.train_head:
            raise ConfigError("head.name: found joint, allowed: others, as only a frozen head has a closed form")
        self._projection = projection(params, experiment, model.backbone.embedding_size)
        super().__init__(params, experiment, model)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        classes, size = self.model.head.weight.shape
        if self._projection is not None:
            size = self._projection.shape[1]
        return {"counts": (classes,), "sums": (classes, size), "squares": (size * (size + 1) // 2,)}

    def solve(self, counts: np.ndarray, sums: np.ndarray, gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights of shape ``(classes, size)`` and bias from class counts, class sums and the whole Gram matrix."""
        raise NotImplementedError

    def head(self, sums: dict[str, np.ndarray], weight: int) -> dict[str, np.ndarray]:
        size = sums["sums"].shape[1]
        gram = np.zeros((size, size))
        gram[np.triu_indices(size)] = sums["squares"]
        gram += np.triu(gram, 1).T
        weights, bias = self.solve(sums["counts"], sums["sums"], gram)
        return {"weight": weights if self._projection is None else weights @ self._projection.T, "bias": bias}
