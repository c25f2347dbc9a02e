"""Methods that train by differences of losses along shared random directions, and send scalars alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

import deltamask as dm
from deltamask import payload
from deltamask.payload import PayloadError
from fedsim.compression import check_end
from fedsim.methods.base import ClientTask, Forward, MethodClient, Trained
from fedsim.methods.phase import Method
from fedsim.methods.wire import pack_tensors, unpack_tensors
from fedsim.models import TaskModel
from fedsim.settings import Experiment, MethodSettings


class ZerothOrderSettings(MethodSettings):
    """Parameters of zeroth-order methods. A step is a plain one of SGD, which directions and scalars can repeat."""

    steps: int = Field(20, ge=1, le=100_000, description="local steps a round")
    batch_size: int = Field(64, ge=1, le=1_000_000, description="samples a step")
    lr: float = Field(1e-2, gt=0, le=1000, description="learning rate of a step")
    smoothing: float = Field(1e-3, gt=0, le=1, description="distance of the two points, in lengths of the direction")

    @property
    def slopes(self) -> int:
        """Directions that a step measures its loss along."""
        return 1


Z = TypeVar("Z", bound=ZerothOrderSettings)


def direction(key: int, dimension: int) -> np.ndarray:
    """The random direction of a stream: N(0, 1), float32 of shape ``(dimension,)``, the same on every device."""
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(dimension, np.float32)


def two_point(
    loss: Callable[[Tensor], Tensor], vector_d: Tensor, direction_d: Tensor, smoothing: float
) -> tuple[np.float32, float]:
    """Slope of a loss along a direction, ``(f(x + mu z) - f(x - mu z)) / (2 mu)``, and the mean of the two losses.

    Spall, "Multivariate stochastic approximation using a simultaneous perturbation gradient approximation" (1992).
    """
    moved_d = smoothing * direction_d
    above, below = float(loss(vector_d + moved_d)), float(loss(vector_d - moved_d))
    return np.float32((above - below) / (2 * smoothing)), (above + below) / 2


def pack_scalars(scalars_n: np.ndarray) -> bytes:
    """Float32 scalars of shape ``(n,)`` as a framed message.

    Raises:
        ValueError: a scalar is not finite.
    """
    if not np.isfinite(scalars_n).all():
        raise ValueError("scalars_n: expected finite values, found others (has training diverged?)")
    return payload.pack(payload.SCALARS, scalars_n.size, scalars_n.astype("<f4").tobytes())


def unpack_scalars(data: bytes, count: int) -> np.ndarray:
    """The scalars of :func:`pack_scalars`.

    Raises:
        PayloadError: the bytes are not so many finite scalars.
    """
    body = payload.unpack(data, payload.SCALARS, count)
    check_end(body, 4 * count, "scalars")
    scalars_n = np.frombuffer(body, "<f4").astype(np.float32)
    if not np.isfinite(scalars_n).all():
        raise PayloadError("scalars: expected finite values, found others")
    return scalars_n


def descend(weights_d: Tensor, directions: Iterable[Tensor], slopes: np.ndarray, factor: float) -> None:
    """Subtract ``factor * slope * z`` from the weights for each direction z, one after the other and in place."""
    for direction_d, slope in zip(directions, slopes, strict=True):
        weights_d -= float(np.float32(factor) * slope) * direction_d


def split_broadcast(broadcast: bytes, model: TaskModel) -> tuple[bytes, dict[str, np.ndarray]]:
    """The message of scalars in a broadcast, and its head. Raises PayloadError when the bytes end otherwise."""
    size = len(pack_tensors(model.head_state()))
    return broadcast[:-size], unpack_tensors(broadcast[-size:], model.head_shapes())


@dataclass(frozen=True)
class ZerothOrderState:
    """A received state.

    Attributes:
        weights_d: the masked weights on the model's device, float32 of shape ``(d,)``.
        head: the head.
        rounds: finished rounds that the weights hold; 0 where a broadcast does not say.
    """

    weights_d: Tensor
    head: dict[str, np.ndarray]
    rounds: int = 0


class ZerothOrderClient(MethodClient[Z]):
    """Trains the masked weights along directions whose streams a subclass names; a broadcast is scalars and the head.

    What training gives is the slopes of all steps, float32 of shape ``(steps * directions,)``.
    """

    def __init__(self, params: Z, experiment: Experiment, model: TaskModel) -> None:
        super().__init__(params, experiment, model)
        self._net = dm.FlatNetwork(model.network, model.masked_names).to(model.device)

    @abstractmethod
    def keys(self, round_index: int, client: int) -> list[list[int]]:
        """Streams of the directions of each local step."""

    def directions(self, keys: Iterable[int]) -> Iterator[Tensor]:
        """The directions of streams, on the model's device."""
        return (torch.from_numpy(direction(key, self._net.size)).to(self.model.device) for key in keys)

    @torch.no_grad()
    def train(self, state: ZerothOrderState, task: ClientTask) -> Trained:
        self.model.load_head(state.head)
        weights_d, params = state.weights_d.clone(), self.params
        slopes, losses = [], []
        for keys, (x, y) in zip(self.keys(task.round, task.client), self._batches(task), strict=True):

            def loss(d: Tensor, x: Tensor = x, y: Tensor = y) -> Tensor:
                return F.cross_entropy(self._net(x, d), y)

            directions = list(self.directions(keys))
            pairs = [two_point(loss, weights_d, direction_d, params.smoothing) for direction_d in directions]
            slopes.append(np.array([slope for slope, _ in pairs]))
            losses.append(np.mean([mean for _, mean in pairs]))
            descend(weights_d, directions, slopes[-1], params.lr / len(keys))
        return Trained(np.concatenate(slopes), float(np.mean(losses)))

    def encode(self, trained: np.ndarray, state: ZerothOrderState, task: ClientTask) -> dm.Update:
        return dm.Update(pack_scalars(trained))

    def evaluations(self, state: ZerothOrderState, round_index: int) -> dict[str, Callable[[], Forward]]:
        return {"mean": lambda: self._forward(state, state.weights_d)}

    def personal(self, trained: np.ndarray, state: ZerothOrderState, task: ClientTask) -> Forward:
        weights_d, steps = state.weights_d.clone(), self.keys(task.round, task.client)
        for keys, slopes in zip(steps, np.split(trained, len(steps)), strict=True):
            descend(weights_d, self.directions(keys), slopes, self.params.lr / len(keys))
        return self._forward(state, weights_d)

    def _forward(self, state: ZerothOrderState, weights_d: Tensor) -> Forward:
        self.model.load_head(state.head)
        return lambda features: self._net(features, weights_d)

    def _batches(self, task: ClientTask) -> Iterator[tuple[Tensor, Tensor]]:
        """As many batches as steps, each drawn anew without replacement."""
        rng = np.random.Generator(
            np.random.Philox(key=dm.stream_key(self.experiment.seed, "batches", task.round, task.client))
        )
        for _ in range(self.params.steps):
            rows = rng.choice(len(task.labels), min(self.params.batch_size, len(task.labels)), replace=False)
            chosen = torch.from_numpy(rows).to(task.labels.device)
            yield task.features[chosen], task.labels[chosen]


class ZerothOrderMethod(Method):
    """A method that trains by differences of losses."""

    train_defaults = None

    @classmethod
    def passes(cls, params: Any, experiment: Experiment, samples: int) -> float:
        """Two points for each slope of each step's batch."""
        return 2.0 * params.steps * params.slopes * min(params.batch_size, samples)
