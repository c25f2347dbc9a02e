"""What all ways to fit the classifier head share: the head is the state, and it stays in the server's model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fedsim.methods.base import Forward, MethodClient, MethodServer
from fedsim.methods.wire import pack_tensors, unpack_tensors
from fedsim.models import TaskModel


class HeadClient(MethodClient):
    """Receives and evaluates a head; a subclass trains."""

    def receive(self, broadcast: bytes) -> Any:
        return unpack_tensors(broadcast, head_shapes(self.model))

    def evaluations(self, state: Any, round_index: int) -> dict[str, Callable[[], Forward]]:
        def mean() -> Forward:
            self.model.load_head(state)
            return self.model.network

        return {"mean": mean}


class HeadServer(MethodServer):
    """Keeps the head in the server's model, where later methods find it; a subclass aggregates."""

    def broadcast(self) -> bytes:
        return pack_tensors(self.model.head_state())

    def state(self) -> dict[str, np.ndarray]:
        return self.model.head_state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.model.load_head(state)


def head_shapes(model: TaskModel) -> dict[str, tuple[int, ...]]:
    """Shapes of the head's parameters by name."""
    return {name: tuple(p.shape) for name, p in model.head.named_parameters()}
