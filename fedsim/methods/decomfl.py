"""DeComFL: clients measure slopes along directions that all share; only scalars travel, in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

import deltamask as dm
from deltamask.payload import HEADER_BYTES
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


class DeComFLSettings(ZerothOrderSettings):
    """Parameters of :class:`DeComFL`."""

    name: str = "decomfl"
    steps: int = Field(1, ge=1, le=100_000, description="local steps a round")
    lr: float = Field(3e-2, gt=0, le=1000, description="learning rate of a step")
    perturbations: int = Field(10, ge=1, le=100_000, description="directions a step, P")

    @property
    def slopes(self) -> int:
        return self.perturbations

    @property
    def scalars(self) -> int:
        """Number of scalars of a round."""
        return self.steps * self.perturbations


class _Client(ZerothOrderClient[DeComFLSettings]):
    def keys(self, round_index: int, client: int) -> list[list[int]]:
        return self._keys(round_index)

    def _keys(self, round_index: int) -> list[list[int]]:
        seed, params = self.experiment.seed, self.params
        return [
            [dm.stream_key(seed, "direction", round_index, step, number) for number in range(params.perturbations)]
            for step in range(params.steps)
        ]

    def receive(self, broadcast: bytes) -> ZerothOrderState:
        message, head = split_broadcast(broadcast, self.model)
        per_round = self.params.scalars
        rounds = (len(message) - HEADER_BYTES) // (4 * per_round)
        slopes = unpack_scalars(message, rounds * per_round)
        state = ZerothOrderState(self._net.weights_d.clone(), head)
        for of_round in np.split(slopes, rounds) if rounds else ():
            state = self._repeat(of_round, state)
        return state

    def receive_delta(self, delta: bytes, state: ZerothOrderState) -> ZerothOrderState:
        return self._repeat(unpack_scalars(delta, self.params.scalars), state)

    def _repeat(self, slopes: np.ndarray, state: ZerothOrderState) -> ZerothOrderState:
        """Take the steps of the next round, with these slopes."""
        finished = state.rounds + 1
        for keys, of_step in zip(self._keys(finished), np.split(slopes, self.params.steps), strict=True):
            descend(state.weights_d, self.directions(keys), of_step, self.params.lr / len(keys))
        return ZerothOrderState(state.weights_d, state.head, finished)


class _Server(MethodServer[DeComFLSettings]):
    """Keeps the mean slopes of all rounds; the weights follow from them, and only clients need these."""

    def __init__(self, params: DeComFLSettings, experiment: Experiment, model: TaskModel) -> None:
        super().__init__(params, experiment, model)
        self._history = np.zeros((experiment.rounds, params.scalars), np.float32)
        self._rounds = 0
        self._begin()

    def _begin(self) -> None:
        self._sums, self._clients = np.zeros(self.params.scalars), 0

    def broadcast(self) -> bytes:
        # A client that missed all rounds repeats them all.
        return pack_scalars(self._history[: self._rounds].ravel()) + pack_tensors(self.model.head_state())

    def delta(self) -> bytes | None:
        return pack_scalars(self._history[self._rounds - 1]) if self._rounds else None

    def decode(self, round_index: int, client: int, payload: bytes) -> np.ndarray:
        return unpack_scalars(payload, self.params.scalars)

    def accumulate(self, decoded: np.ndarray, weight: int) -> None:
        self._sums += decoded
        self._clients += 1

    def finish_round(self) -> None:
        self._history[self._rounds] = self._sums / self._clients
        self._rounds += 1
        self._begin()

    def state(self) -> dict[str, np.ndarray]:
        return {"history": self._history, "finished": np.array([self._rounds], np.int64)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._history = state["history"].copy()
        self._rounds = int(state["finished"][0])


class DeComFL(ZerothOrderMethod):
    """Li et al., "Achieving Dimension-Free Communication in Federated Learning via Zeroth-Order Optimization" (2025).

    In step k of a round all clients share P directions ``z_kp``; each measures the slopes ``g_kp`` of its own loss
    along them and goes to ``w - lr / P * sum of g_kp z_kp``. The server averages the slopes of the clients, unweighted,
    and everyone repeats the round's steps with the means; a client that missed rounds repeats them in order. Slopes are
    central differences, as in the authors' code (ICLR 2025).
    """

    name = "decomfl"
    summary = "zeroth-order steps along directions that all clients share; only scalars travel, both ways"
    Params: ClassVar[type[DeComFLSettings]] = DeComFLSettings
    Client, Server = _Client, _Server
