"""Halves of whatever trains the head alone: the head is the state, and it stays in the server's model.

Before the first round that is zeros, which everyone knows and nobody sends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import deltamask as dm
from fedsim.methods.base import Forward, MethodClient, MethodServer, P
from fedsim.methods.wire import pack_changed, pack_tensors, unpack_changed, unpack_tensors
from fedsim.models import TaskModel


class HeadClient(MethodClient[P]):
    """Receives and evaluates a head, and sends tensors; a subclass trains."""

    def receive(self, broadcast: bytes) -> Any:
        return unpack_changed(broadcast, untrained(self.model))

    def encode(self, trained: Mapping[str, np.ndarray], state: Any, task: Any) -> dm.Update:
        return dm.Update(pack_tensors(trained))

    def evaluations(self, state: Any, round_index: int) -> dict[str, Callable[[], Forward]]:
        def mean() -> Forward:
            self.model.load_head(state)
            return self.model.network

        return {"mean": mean}


class HeadServer(MethodServer[P]):
    """Keeps the head in the server's model, where later methods find it; a subclass says what clients send.

    Uploads are tensors, whose sums over the clients' weights a subclass turns into a head.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._begin()

    def _begin(self) -> None:
        self._sums = {name: np.zeros(shape) for name, shape in self.shapes().items()}
        self._weight = 0

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors of an upload by name: the head's, unless a subclass knows better."""
        return self.model.head_shapes()

    def head(self, sums: dict[str, np.ndarray], weight: int) -> dict[str, np.ndarray]:
        """The head from the weighted sums of the uploads' tensors, float64, and the sum of the weights."""
        raise NotImplementedError

    def broadcast(self) -> bytes:
        return pack_changed(self.model.head_state(), untrained(self.model))

    def decode(self, round_index: int, client: int, payload: bytes) -> dict[str, np.ndarray]:
        return unpack_tensors(payload, self.shapes())

    def accumulate(self, decoded: dict[str, np.ndarray], weight: int) -> None:
        for name, array in decoded.items():
            self._sums[name] += weight * array.astype(np.float64)
        self._weight += weight

    def finish_round(self) -> None:
        self._update_head()
        self._begin()

    def _update_head(self) -> None:
        head = self.head(self._sums, self._weight)
        self.model.load_head({name: array.astype(np.float32) for name, array in head.items()})

    def state(self) -> dict[str, np.ndarray]:
        return self.model.head_state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.model.load_head(state)


def untrained(model: TaskModel) -> dict[str, np.ndarray]:
    """The head before the first round."""
    return {name: np.zeros(shape, np.float32) for name, shape in model.head_shapes().items()}
