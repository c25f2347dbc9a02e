"""FedKSeed: all change of the weights lies along a few candidate directions; scalars of these travel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

import deltamask as dm
from fedsim.methods.base import MethodServer
from fedsim.methods.wire import pack_tensors
from fedsim.methods.zeroth_order import (
    ZerothOrderClient,
    ZerothOrderMethod,
    ZerothOrderSettings,
    ZerothOrderState,
    descend,
    pack_scalars,
    split_broadcast,
    unpack_scalars,
)
from fedsim.models import TaskModel
from fedsim.settings import Experiment


class FedKSeedSettings(ZerothOrderSettings):
    """Parameters of :class:`FedKSeed`."""

    name: str = "fedkseed"
    candidates: int = Field(1024, ge=1, le=65_536, description="candidate seeds K, of which a local step draws one")

    @property
    def weighted(self) -> bool:
        return True


def drawn_candidates(params: FedKSeedSettings, seed: int, round_index: int, client: int) -> np.ndarray:
    """Numbers of the candidates of a client's local steps, int64 of shape ``(steps,)``, uniform with replacement."""
    rng = np.random.Generator(np.random.Philox(key=dm.stream_key(seed, "candidates", round_index, client)))
    return rng.integers(params.candidates, size=params.steps)


class _Client(ZerothOrderClient[FedKSeedSettings]):
    def keys(self, round_index: int, client: int) -> list[list[int]]:
        drawn = drawn_candidates(self.params, self.experiment.seed, round_index, client)
        return [[key] for key in self._keys(drawn)]

    def _keys(self, candidates: np.ndarray) -> list[int]:
        return [dm.stream_key(self.experiment.seed, "candidate", candidate) for candidate in candidates.tolist()]

    def receive(self, broadcast: bytes) -> ZerothOrderState:
        message, head = split_broadcast(broadcast, self.model)
        scalars_k = unpack_scalars(message, self.params.candidates)
        weights_d, used = self._net.weights_d.clone(), np.flatnonzero(scalars_k)
        descend(weights_d, self.directions(self._keys(used)), scalars_k[used], self.params.lr)
        return ZerothOrderState(weights_d, head)


class _Server(MethodServer[FedKSeedSettings]):
    """Keeps the accumulated slope of each candidate; the weights follow from them, and only clients need these."""

    counts_late = True

    def __init__(self, params: FedKSeedSettings, experiment: Experiment, model: TaskModel) -> None:
        super().__init__(params, experiment, model)
        self._scalars_k = np.zeros(params.candidates, np.float32)
        self._begin()

    def _begin(self) -> None:
        self._sums_k, self._weight = np.zeros(self.params.candidates), 0

    def broadcast(self) -> bytes:
        return pack_scalars(self._scalars_k) + pack_tensors(self.model.head_state())

    @property
    def replayable(self) -> bool:
        return True

    def adopt(self, broadcast: bytes) -> None:
        message, head = split_broadcast(broadcast, self.model)
        self._scalars_k = unpack_scalars(message, self.params.candidates)
        self.model.load_head(head)

    def decode(self, round_index: int, client: int, payload: bytes) -> np.ndarray:
        slopes = unpack_scalars(payload, self.params.steps)
        drawn = drawn_candidates(self.params, self.experiment.seed, round_index, client)
        return np.bincount(drawn, slopes, self.params.candidates)

    def accumulate(self, decoded: np.ndarray, weight: int) -> None:
        self._sums_k += weight * decoded
        self._weight += weight

    def finish_round(self) -> None:
        self._scalars_k = (self._scalars_k + self._sums_k / self._weight).astype(np.float32)
        self._begin()

    def state(self) -> dict[str, np.ndarray]:
        return {"scalars": self._scalars_k}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._scalars_k = state["scalars"].copy()


class FedKSeed(ZerothOrderMethod):
    """Qin et al., "Federated Full-Parameter Tuning ... with Communication Cost under 18 Kilobytes" (ICML 2024).

    Weights are ``w_0 - lr * sum of a_j z_j`` over the K candidates, with z_j derived from the seed of candidate j. A
    local step draws a candidate j, measures the slope g of its batch's loss along z_j and goes to ``w - lr * g z_j``;
    the server adds the slopes to a_j, weighted by samples. The paper's clients send pairs of a seed and a slope. Here
    draws follow from the shared stream of round and client, and the slopes alone are sent, in the order of the steps.
    Draws are uniform, as in FedKSeed and not in its variant FedKSeed-Pro.
    """

    name = "fedkseed"
    summary = "zeroth-order steps along K shared directions; sends a scalar a step, gets K of them"
    Params: ClassVar[type[FedKSeedSettings]] = FedKSeedSettings
    Client, Server = _Client, _Server
