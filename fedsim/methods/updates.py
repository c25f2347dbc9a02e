"""Clients that train a vector and send its change through a compressor, whatever the server makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np
import torch
from pydantic import Field, SerializeAsAny, field_validator
from torch import Tensor, nn

import deltamask as dm
from fedsim.compression import COMPRESSORS, make_compressor
from fedsim.compression.none import NoneSettings
from fedsim.methods.base import Attack, ClientTask, Forward, MethodClient, Trained
from fedsim.methods.dp_sgd import private_training
from fedsim.methods.head import untrained
from fedsim.methods.privacy import ClientPrivacy
from fedsim.methods.together import together
from fedsim.methods.training import LocalTraining
from fedsim.methods.wire import unpack_changed
from fedsim.models import TaskModel
from fedsim.settings import CompressorSettings, Experiment, MethodSettings, validate_member


class UpdateSettings(MethodSettings):
    """Parameters of every method that sends dense updates, whatever the server makes of them.

    A method whose default compressor is not ``none`` is named after it, and takes that one alone.
    """

    compressor: SerializeAsAny[CompressorSettings] = Field(
        default_factory=NoneSettings, description="group of the update's compressor"
    )
    error_feedback: bool = Field(False, description="add what compression lost to the client's next update")
    weighting: Literal["samples", "uniform"] = Field("samples", description="weight of a client in the mean update")

    @property
    def weighted(self) -> bool:
        return self.weighting == "samples"

    @field_validator("compressor", mode="before")
    @classmethod
    def _compressor_parameters(cls, value: Any) -> Any:
        default = cls.model_fields["compressor"].get_default(call_default_factory=True).name
        value = validate_member(value, COMPRESSORS, default)
        if default != "none" and isinstance(value, CompressorSettings) and value.name != default:
            raise ValueError(f"name: found {value.name!r}, allowed: {default!r}; fedavg takes every compressor")
        return value


U = TypeVar("U", bound=UpdateSettings)


class FlatFunction(Protocol):
    """A network as a function of one vector."""

    #: Where the vector starts, float32 of shape ``(n,)``.
    weights_d: Tensor

    def __call__(self, inputs: Tensor, weights_d: Tensor) -> Tensor:
        """Logits of prefix features, with this vector."""


class CompressedUpdates:
    """A compressor of both sides, with the randomness that they share for one message.

    Args:
        params: of the compressor.
        seed: of the experiment.
        purpose: sets messages of one kind apart from others.
        size: entries of a vector.
    """

    def __init__(self, params: CompressorSettings, seed: int, purpose: str, size: int) -> None:
        self._compressor, self._seed, self._purpose, self.size = make_compressor(params), seed, purpose, size

    def encode(self, update_d: np.ndarray, *which: int) -> bytes:
        return self._compressor.encode(update_d, self._key(*which))

    def decode(self, payload: bytes, *which: int) -> np.ndarray:
        return self._compressor.decode(payload, self.size, self._key(*which))

    def _key(self, *which: int) -> int:
        return dm.stream_key(self._seed, self._purpose, *which)


def known_start(model: TaskModel, net: FlatFunction, **more: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays of a broadcast as everyone knows them before the first round: the vector, more, and the untrained head."""
    return {"vector": net.weights_d.detach().cpu().numpy(), **more, **untrained(model)}


class DenseClient(MethodClient[U]):
    """Trains the vector; what training gives is its change, float32 of shape ``(n,)``.

    Args:
        params, experiment, model: see :class:`~fedsim.methods.base.MethodClient`.
        net: the network as a function of the vector.
        start: the arrays of a broadcast as everyone knows them before the first round, by :func:`known_start`.
    """

    clips_gradients: ClassVar[bool] = True

    def __init__(
        self, params: U, experiment: Experiment, model: TaskModel, net: FlatFunction, start: Mapping[str, np.ndarray]
    ) -> None:
        super().__init__(params, experiment, model)
        self._net = net.to(model.device) if isinstance(net, nn.Module) else net
        self._start, size = start, start["vector"].size
        self._compressed = CompressedUpdates(params.compressor, experiment.seed, "compression", size)
        self._training = LocalTraining(experiment.train, experiment.seed)
        self._private = private_training(experiment.train, experiment.privacy, experiment.seed)
        self._privacy = ClientPrivacy(experiment.privacy, experiment.seed)
        self._step = self._training.compiled(self._network())

    def receive(self, broadcast: bytes) -> Any:
        return unpack_changed(broadcast, self._start)

    def _network(self) -> Callable[..., Tensor]:
        """The network of a step, of inputs and the vector; of inputs alone where it holds the vector."""
        return self._net.module if isinstance(self._net, dm.FlatNetwork) else self._net

    def warm_up(self, features: Tensor) -> None:
        with self._parameters(self._net.weights_d.clone()) as (_, more):
            self._training.warm_up(lambda x: self._step(x, *more), features)

    @contextmanager
    def _parameters(self, vector_d: Tensor) -> Iterator[tuple[list[nn.Parameter], list[Tensor]]]:
        """A vector as what is trained in place, and what a step takes beside its inputs."""
        if isinstance(self._net, dm.FlatNetwork):
            with self._net.holding(vector_d) as parameters:
                yield parameters, []
        else:
            parameter = nn.Parameter(vector_d)
            yield [parameter], [parameter]

    def load(self, state: Any) -> Tensor:
        """Set what is frozen by a state; its vector, on the model's device."""
        self.model.load_head(state)
        return torch.tensor(state["vector"], device=self.model.device)

    def train(self, state: Any, task: ClientTask) -> Trained:
        vector_d = self.load(state)
        if self._private is not None:
            trained_d = nn.Parameter(vector_d)
            loss = self._private.run(trained_d, task, self._net, lambda step: (trained_d, None))
            return self._trained(trained_d.detach(), loss, state, task)
        with self._parameters(vector_d) as (parameters, more):
            loss = self._training.run(parameters, task, lambda x, step: self._step(x, *more))
        return self._trained(vector_d, loss, state, task)

    def train_together(self, state: Any, tasks: Sequence[ClientTask]) -> list[Trained]:
        network = together(self._net, self._net)
        vectors, losses = self._training.run_together(self.load(state), tasks, lambda x, v, step: network(x, v))
        found = zip(vectors, losses, tasks, strict=True)
        return [self._trained(vector_d, loss, state, task) for vector_d, loss, task in found]

    def _trained(self, vector_d: Tensor, loss: float, state: Any, task: ClientTask) -> Trained:
        update_d = vector_d.cpu().numpy() - state["vector"]
        if task.client_state is not None:
            update_d += task.client_state
        return Trained(self._privacy.clipped(update_d), loss)

    def attacked(self, trained: np.ndarray, state: Any, attack: Attack) -> np.ndarray:
        return attack(trained)

    def encode(self, trained: np.ndarray, state: Any, task: ClientTask) -> dm.Update:
        return dm.Update(self._compressed.encode(trained, task.round, task.client))

    def keep(self, trained: np.ndarray, update: dm.Update, task: ClientTask) -> np.ndarray | None:
        if not self.params.error_feedback:
            return None
        return trained - self._compressed.decode(update.payload, task.round, task.client)

    def evaluations(self, state: Any, round_index: int) -> dict[str, Callable[[], Forward]]:
        return {"mean": lambda: self._forward(self.load(state))}

    def personal(self, trained: np.ndarray, state: Any, task: ClientTask) -> Forward:
        # What compression lost before is sent with the change, and no part of the client's model.
        change_d = trained if task.client_state is None else trained - task.client_state
        return self._forward(self.load(state) + torch.from_numpy(change_d).to(self.model.device))

    def _forward(self, vector_d: Tensor) -> Forward:
        return lambda features: self._net(features, vector_d)
