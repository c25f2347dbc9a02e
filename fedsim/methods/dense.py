"""Methods that send a dense update of some vector, such as weights, biases or low-rank factors.

The vector is trained at the client; its difference goes through a compressor; the server adds the mean of the
differences. A subclass of :class:`DenseMethod` says what the vector is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from pydantic import Field, SerializeAsAny, field_validator
from torch import Tensor, nn

import deltamask as dm
from fedsim.compression import COMPRESSORS, make_compressor
from fedsim.compression.none import NoneSettings
from fedsim.methods.base import ClientTask, Forward, Method, MethodClient, MethodServer, Trained
from fedsim.methods.training import LocalTraining
from fedsim.methods.wire import pack_tensors, unpack_tensors
from fedsim.models import TaskModel
from fedsim.settings import CompressorSettings, Experiment, MethodSettings, validate_member


class DenseSettings(MethodSettings):
    """Parameters of every method that sends dense updates.

    A method whose default compressor is not ``none`` is named after it, and takes that one alone.
    """

    compressor: SerializeAsAny[CompressorSettings] = Field(
        default_factory=NoneSettings, description="group of the update's compressor"
    )
    error_feedback: bool = Field(False, description="add what compression lost to the client's next update")
    weighting: Literal["samples", "uniform"] = Field("samples", description="weight of a client in the mean update")
    server_lr: float = Field(1.0, gt=0, le=100, description="factor of the mean update")
    server_momentum: float = Field(0.0, ge=0, lt=1, description="momentum of the mean update")

    @field_validator("compressor", mode="before")
    @classmethod
    def _compressor_parameters(cls, value: Any) -> Any:
        default = cls.model_fields["compressor"].get_default(call_default_factory=True).name
        value = validate_member(value, COMPRESSORS, default)
        if default != "none" and isinstance(value, CompressorSettings) and value.name != default:
            raise ValueError(f"name: found {value.name!r}, allowed: {default!r}; fedavg takes every compressor")
        return value


class FlatFunction(Protocol):
    """A network as a function of one vector."""

    #: Where the vector starts, float32 of shape ``(n,)``.
    weights_d: Tensor

    def __call__(self, inputs: Tensor, weights_d: Tensor) -> Tensor:
        """Logits of prefix features, with this vector."""


class DenseMethod(Method):
    """A method whose update is the change of one vector; a subclass says which by :meth:`flatten`."""

    Params: ClassVar[type[DenseSettings]] = DenseSettings
    train_defaults: ClassVar[Mapping[str, Any]] = {"lr": 1e-3}

    @classmethod
    @abstractmethod
    def flatten(cls, params: Any, experiment: Experiment, model: TaskModel) -> FlatFunction:
        """The model's network as a function of what the method trains; an ``nn.Module`` goes to the model's device."""

    @classmethod
    def client(cls, params: Any, experiment: Experiment, model: TaskModel) -> MethodClient[Any]:
        return DenseClient(params, experiment, model, cls.flatten(params, experiment, model))

    @classmethod
    def server(cls, params: Any, experiment: Experiment, model: TaskModel) -> MethodServer[Any]:
        return _Server(params, experiment, model, cls.flatten(params, experiment, model))

    @classmethod
    def compile_kernels(cls, params: DenseSettings) -> None:
        compressor = make_compressor(params.compressor)
        compressor.decode(compressor.encode(np.linspace(-1, 1, 64, dtype=np.float32), 0), 64, 0)


class CompressedUpdates:
    """The compressor of both halves, with the randomness that they share for one update."""

    def __init__(self, params: DenseSettings, seed: int, size: int) -> None:
        self._compressor, self._seed, self.size = make_compressor(params.compressor), seed, size

    def encode(self, update_d: np.ndarray, round_index: int, client: int) -> bytes:
        return self._compressor.encode(update_d, self._key(round_index, client))

    def decode(self, payload: bytes, round_index: int, client: int) -> np.ndarray:
        return self._compressor.decode(payload, self.size, self._key(round_index, client))

    def _key(self, round_index: int, client: int) -> int:
        return dm.stream_key(self._seed, "compression", round_index, client)


class DenseClient(MethodClient[DenseSettings]):
    """Trains the vector; what training gives is its change, float32 of shape ``(n,)``."""

    def __init__(self, params: DenseSettings, experiment: Experiment, model: TaskModel, net: FlatFunction) -> None:
        super().__init__(params, experiment, model)
        self._net = net.to(model.device) if isinstance(net, nn.Module) else net
        self._compressed = CompressedUpdates(params, experiment.seed, net.weights_d.numel())
        self._training = LocalTraining(experiment.train, experiment.seed)

    def receive(self, broadcast: bytes) -> Any:
        return unpack_tensors(broadcast, {"vector": (self._compressed.size,), **self.model.head_shapes()})

    def train(self, state: Any, task: ClientTask) -> Trained:
        self.model.load_head(state)
        vector_d = nn.Parameter(torch.tensor(state["vector"], device=self.model.device))
        loss = self._training.run([vector_d], task, lambda x, step: self._net(x, vector_d))
        update_d = vector_d.detach().cpu().numpy() - state["vector"]
        if task.client_state is not None:
            update_d += task.client_state
        return Trained(update_d, loss)

    def encode(self, trained: np.ndarray, state: Any, task: ClientTask) -> dm.Update:
        return dm.Update(self._compressed.encode(trained, task.round, task.client))

    def keep(self, trained: np.ndarray, update: dm.Update, task: ClientTask) -> np.ndarray | None:
        if not self.params.error_feedback:
            return None
        return trained - self._compressed.decode(update.payload, task.round, task.client)

    def evaluations(self, state: Any, round_index: int) -> dict[str, Callable[[], Forward]]:
        def mean() -> Forward:
            self.model.load_head(state)
            vector_d = torch.tensor(state["vector"], device=self.model.device)
            return lambda features: self._net(features, vector_d)

        return {"mean": mean}


class _Server(MethodServer[DenseSettings]):
    def __init__(self, params: DenseSettings, experiment: Experiment, model: TaskModel, net: FlatFunction) -> None:
        super().__init__(params, experiment, model)
        self._vector_d = net.weights_d.detach().cpu().numpy()
        self._compressed = CompressedUpdates(params, experiment.seed, self._vector_d.size)
        self._momentum_d = np.zeros(self._vector_d.size, np.float32) if params.server_momentum else None
        self._begin()

    def _begin(self) -> None:
        self._sum_d, self._weight = np.zeros(self._vector_d.size), 0

    def broadcast(self) -> bytes:
        # A client may never have been sampled before, so each broadcast holds the frozen head too.
        return pack_tensors({"vector": self._vector_d, **self.model.head_state()})

    def decode(self, round_index: int, client: int, payload: bytes) -> np.ndarray:
        return self._compressed.decode(payload, round_index, client)

    def accumulate(self, decoded: np.ndarray, samples: int) -> None:
        weight = samples if self.params.weighting == "samples" else 1
        self._sum_d += weight * decoded.astype(np.float64)
        self._weight += weight

    def finish_round(self) -> None:
        mean_d = (self._sum_d / self._weight).astype(np.float32)
        if self._momentum_d is not None:
            mean_d = self._momentum_d = np.float32(self.params.server_momentum) * self._momentum_d + mean_d
        self._vector_d = self._vector_d + np.float32(self.params.server_lr) * mean_d
        self._begin()

    def state(self) -> dict[str, np.ndarray]:
        momentum = {} if self._momentum_d is None else {"momentum": self._momentum_d}
        return {"vector": self._vector_d, **momentum}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._vector_d = state["vector"].copy()
        if self._momentum_d is not None:
            self._momentum_d = state["momentum"].copy()
