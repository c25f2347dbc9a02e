"""Ridge regression of the labels on the embeddings, in closed form from sums over clients.

Analytic federated learning (He et al., "AFL: A Single-Round Analytic Approach for Federated Learning with Pre-trained
Models", CVPR 2025, arXiv 2405.16240) and Fed3R (Fani et al., "Accelerating Heterogeneous Federated Learning with
Closed-form Classifiers", ICML 2024, arXiv 2406.01116).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
from pydantic import Field

import deltamask as dm
from fedsim.compression import compile_compressor
from fedsim.methods.base import ClientTask, Trained
from fedsim.methods.head import untrained
from fedsim.methods.phase import Method
from fedsim.methods.statistics import StatisticsClient, StatisticsServer, StatisticsSettings
from fedsim.methods.wire import pack_changed, pack_tensors
from fedsim.settings import MethodSettings

_NOTHING = pack_tensors({})  # of a client that has sent its sums
#: Penalties to choose from, in largest eigenvalues of the Gram matrix, which float32 sums know to about 2^-20.
_PENALTIES = 2.0 ** np.arange(-20, 4.5, 0.5)


class RidgeKeys(StatisticsSettings):
    """Keys of ridge regression."""

    penalty: float | None = Field(
        None, ge=0, description="added to the Gram matrix; by generalised cross-validation when not given"
    )


R = TypeVar("R", bound=RidgeKeys)


def ridge(
    counts: np.ndarray, sums: np.ndarray, gram: np.ndarray, penalty: float | None, *, least: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Regression of one-hot labels on centred embeddings, whose intercept is not penalised.

    Args:
        counts: samples of each class, shape ``(classes,)``.
        sums: sums of their embeddings, shape ``(classes, size)``.
        gram: the Gram matrix of all embeddings, shape ``(size, size)``.
        penalty: added to the diagonal of the centred Gram matrix. When None, that of least generalised
            cross-validation error (Golub, Heath, Wahba 1979), which these sums suffice for.
        least: the least penalty to choose.

    Returns:
        Weights of shape ``(classes, size)`` and the bias of shape ``(classes,)``, float64.
    """
    samples = counts.sum()
    mean, share = sums.sum(0) / samples, counts / samples
    values, vectors = np.linalg.eigh(gram - samples * np.outer(mean, mean))
    values = np.maximum(values, 0)
    targets = vectors.T @ (sums - np.outer(counts, mean)).T  # of shape (size, classes)
    if penalty is None:
        candidates = np.maximum(_PENALTIES * max(values.max(), 1e-30), least)
        total = samples - (counts**2).sum() / samples
        power = (targets**2).sum(1)
        damped = values + candidates[:, None]
        error = total - 2 * (power / damped).sum(1) + (values * power / damped**2).sum(1)
        freedom = 1 + (values / damped).sum(1)
        # As many parameters as samples leave nothing to judge by.
        scores = np.where(freedom < samples, error / np.maximum(1 - freedom / samples, 1e-12) ** 2, np.inf)
        penalty = float(candidates[scores.argmin()])
    inverse = np.divide(1, values + penalty, out=np.zeros_like(values), where=values + penalty > 0)
    weights = (vectors @ (targets * inverse[:, None])).T
    return weights, share - weights @ mean


class RidgeServer(StatisticsServer[R]):
    """Solves for the head of ridge regression."""

    def solve(
        self, counts: np.ndarray, sums: np.ndarray, gram: np.ndarray, noise: float
    ) -> tuple[np.ndarray, np.ndarray]:
        return ridge(counts, sums, gram, self.params.penalty, least=noise)


class RidgeSettings(RidgeKeys, MethodSettings):
    """Parameters of :class:`Ridge`."""

    name: str = "ridge"


class _Client(StatisticsClient[RidgeSettings]):
    """Sends its sums once, in its first round."""

    def train(self, state: Any, task: ClientTask) -> Trained:
        return Trained(None) if task.client_state is not None else super().train(state, task)

    def encode(self, trained: Any, state: Any, task: ClientTask) -> dm.Update:
        return dm.Update(_NOTHING) if trained is None else super().encode(trained, state, task)

    def keep(self, trained: Any, update: dm.Update, task: ClientTask) -> np.ndarray | None:
        return np.ones(1, np.float32)


class _Server(RidgeServer[RidgeSettings]):
    """Adds up the sums of all clients that took part so far; a head that another method fitted is not needed."""

    def broadcast(self) -> bytes:
        if not self._sums["counts"].any():
            return pack_changed(known := untrained(self.model), known)
        return super().broadcast()

    def decode(self, round_index: int, client: int, payload: bytes) -> dict[str, np.ndarray]:
        return {} if payload == _NOTHING else super().decode(round_index, client, payload)

    def finish_round(self) -> None:
        self._update_head()

    def state(self) -> dict[str, np.ndarray]:
        return super().state() | {f"sums.{name}": array for name, array in self._sums.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        super().restore({name: array for name, array in state.items() if not name.startswith("sums.")})
        self._sums = {name: state[f"sums.{name}"].copy() for name in self._sums}


class Ridge(Method):
    """One head in closed form from the sums of all clients; more rounds add clients that were not sampled before."""

    name = "ridge"
    summary = "the head alone, in closed form: each client sends its Gram matrix and class sums once"
    Params = RidgeSettings
    train_defaults: ClassVar[Mapping[str, Any] | None] = None
    Client, Server = _Client, _Server

    @classmethod
    def compile_kernels(cls, params: StatisticsSettings) -> None:
        compile_compressor(params.compressor)
