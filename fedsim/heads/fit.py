"""A Gaussian head: class means and one covariance, summed over clients; nothing is trained.

The head of FiT (Shysheya et al., "FiT: Parameter Efficient Few-shot Transfer Learning for Personalized and Federated
Image Classification", ICLR 2023): linear discriminant analysis, which is a linear layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field

from fedsim.heads.base import Head
from fedsim.methods.base import ClientTask, Trained
from fedsim.methods.head import HeadClient, HeadServer
from fedsim.settings import HeadSettings

_PSEUDO_COUNT = 0.5  # of a class that no client has


class FitSettings(HeadSettings):
    """Keys of :class:`Fit`."""

    name: str = "fit"
    shrinkage: float = Field(0.1, ge=0, le=1, description="of the covariance towards the identity")


class _Client(HeadClient[FitSettings]):
    def train(self, state: Any, task: ClientTask) -> Trained:
        embeddings = self.model.embed(task.features).double()
        classes, size = self.model.head.weight.shape
        member = F.one_hot(task.labels, classes).double()
        upper = torch.triu_indices(size, size, device=embeddings.device)
        statistics = {
            "counts": member.sum(0),
            "sums": member.T @ embeddings,
            "squares": (embeddings.T @ embeddings)[upper[0], upper[1]],
        }
        return Trained({name: value.float().cpu().numpy() for name, value in statistics.items()})


class _Server(HeadServer[FitSettings]):
    def shapes(self) -> dict[str, tuple[int, ...]]:
        classes, size = self.model.head.weight.shape
        return {"counts": (classes,), "sums": (classes, size), "squares": (size * (size + 1) // 2,)}

    def head(self, sums: dict[str, np.ndarray], weight: int) -> dict[str, np.ndarray]:
        counts, totals = sums["counts"], sums["sums"]
        size = totals.shape[1]
        squares = np.zeros((size, size))
        squares[np.triu_indices(size)] = sums["squares"]
        squares += np.triu(squares, 1).T
        means = np.where(counts[:, None] > 0, totals / np.maximum(counts, 1)[:, None], totals.sum(0) / counts.sum())
        covariance = (squares - (means.T * counts) @ means) / counts.sum()
        shrinkage = self.params.shrinkage
        covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / size * np.eye(size)
        weights = np.linalg.solve(covariance, means.T).T
        bias = np.log(np.maximum(counts, _PSEUDO_COUNT) / counts.sum()) - 0.5 * (weights * means).sum(1)
        return {"weight": weights, "bias": bias}


class Fit(Head):
    """Gaussian (LDA) head from sufficient statistics; ``head.shrinkage`` pulls its covariance to the identity."""

    name = "fit"
    summary = "Gaussian head from class means and a shared covariance, summed over clients"
    Params = FitSettings
    Client, Server = _Client, _Server
