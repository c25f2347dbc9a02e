"""A Gaussian head: class means and one covariance, summed over clients; nothing is trained.

The head of FiT (Shysheya et al., "FiT: Parameter Efficient Few-shot Transfer Learning for Personalized and Federated
Image Classification", ICLR 2023): linear discriminant analysis, which is a linear layer.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from fedsim.compression import compile_compressor
from fedsim.heads.base import FittedHeadSettings, Head
from fedsim.methods.statistics import StatisticsClient, StatisticsServer, StatisticsSettings

_PSEUDO_COUNT = 0.5  # of a class that no client has


class FitSettings(StatisticsSettings, FittedHeadSettings):
    """Keys of :class:`Fit`."""

    name: str = "fit"
    shrinkage: float = Field(0.1, ge=0, le=1, description="of the covariance towards the identity")


class _Server(StatisticsServer[FitSettings]):
    def solve(
        self, counts: np.ndarray, sums: np.ndarray, gram: np.ndarray, noise: float
    ) -> tuple[np.ndarray, np.ndarray]:
        size = sums.shape[1]
        means = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], sums.sum(0) / counts.sum())
        covariance = (gram - (means.T * counts) @ means) / counts.sum()
        shrinkage = self.params.shrinkage
        covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / size * np.eye(size)
        weights = np.linalg.solve(covariance, means.T).T
        return weights, np.log(np.maximum(counts, _PSEUDO_COUNT) / counts.sum()) - 0.5 * (weights * means).sum(1)


class Fit(Head):
    """Gaussian (LDA) head from sufficient statistics; ``head.shrinkage`` pulls its covariance to the identity."""

    name = "fit"
    summary = "Gaussian head from class means and a shared covariance, summed over clients"
    Params = FitSettings
    Client, Server = StatisticsClient, _Server

    @classmethod
    def compile_kernels(cls, params: StatisticsSettings) -> None:
        compile_compressor(params.compressor)
