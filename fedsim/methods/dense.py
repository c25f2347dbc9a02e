"""What methods share that send a dense update of some vector, such as weights, biases or low-rank factors.

The vector is trained at the client; its difference goes through a compressor; the server adds the mean of the
differences. A subclass of :class:`DenseMethod` says what the vector is.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from pydantic import Field, SerializeAsAny, field_validator
from torch import Tensor, nn

import deltamask as dm
from fedsim.compression import COMPRESSORS, CompressorConfig, make_compressor
from fedsim.compression.none import NoneConfig
from fedsim.config import Config, MethodConfig
from fedsim.methods.base import Absorbed, ClientTask, Forward, Method, MethodClient, MethodServer, Upload
from fedsim.methods.head import head_shapes
from fedsim.methods.training import make_optimizer, train_steps
from fedsim.methods.wire import pack_tensors, unpack_tensors
from fedsim.models import TaskModel
from fedsim.settings._settings import named_group


class DenseConfig(MethodConfig):
    """Parameters of every method that sends dense updates.

    A method whose default compressor is not ``none`` is named after it, and takes that one alone.
    """

    compressor: SerializeAsAny[CompressorConfig] = Field(
        default_factory=NoneConfig, description="group of the update's compressor"
    )
    error_feedback: bool = Field(False, description="add what compression lost to the client's next update")
    weighting: Literal["samples", "uniform"] = Field("samples", description="weight of a client in the mean update")
    server_lr: float = Field(1.0, gt=0, le=100, description="factor of the mean update")
    server_momentum: float = Field(0.0, ge=0, lt=1, description="momentum of the mean update")

    @field_validator("compressor", mode="before")
    @classmethod
    def _compressor_parameters(cls, value: Any) -> Any:
        default = cls.model_fields["compressor"].get_default(call_default_factory=True).name
        value = named_group(value, lambda name: COMPRESSORS.get(name).Params, default)
        if default != "none" and isinstance(value, CompressorConfig) and value.name != default:
            raise ValueError(f"name: found {value.name!r}, allowed: {default!r}; fedavg takes every compressor")
        return value


class Vectorised(Protocol):
    """A network as a function of one vector."""

    #: Where the vector starts, float32 of shape ``(n,)``.
    weights_d: Tensor

    def __call__(self, inputs: Tensor, weights_d: Tensor) -> Tensor:
        """Logits of prefix features, with this vector."""


class DenseMethod(Method):
    """A method whose update is the change of one vector; a subclass says which by :meth:`vectorise`."""

    Params: ClassVar[type[DenseConfig]] = DenseConfig
    train_defaults: ClassVar[Mapping[str, Any]] = {"lr": 1e-3}

    @classmethod
    @abstractmethod
    def vectorise(cls, config: Config, model: TaskModel) -> Vectorised:
        """The model's network as a function of what the method trains; an ``nn.Module`` goes to the model's device."""

    @classmethod
    def client(cls, config: Config, model: TaskModel) -> MethodClient:
        return _Client(config, model, cls.vectorise(config, model))

    @classmethod
    def server(cls, config: Config, model: TaskModel) -> MethodServer:
        return _Server(config, model, cls.vectorise(config, model))


def _update_key(config: Config, round_index: int, client: int) -> int:
    """The randomness that a client and the server share for one update."""
    return dm.stream_key(config.seed, "compression", round_index, client)


class _Client(MethodClient):
    def __init__(self, config: Config, model: TaskModel, net: Vectorised) -> None:
        super().__init__(config, model)
        assert isinstance(config.method, DenseConfig)
        self._params = config.method
        self._net = net.to(model.device) if isinstance(net, nn.Module) else net
        self._compressor = make_compressor(self._params.compressor)
        self._size = net.weights_d.numel()
        _compile_kernels(self._params.compressor)

    def receive(self, broadcast: bytes) -> Any:
        return unpack_tensors(broadcast, {"vector": (self._size,), **head_shapes(self.model)})

    def train(self, state: Any, task: ClientTask) -> Upload:
        started = time.perf_counter()
        self.model.load_head(state)
        vector_d = nn.Parameter(torch.tensor(state["vector"], device=self.model.device))
        optimizer = make_optimizer(self.config.train, [vector_d])
        batches = task.batches(self.config, self.config.train.epochs)
        train_loss = train_steps(optimizer, batches, lambda x, step: self._net(x, vector_d))
        update_d = vector_d.detach().cpu().numpy() - state["vector"]
        trained = time.perf_counter()
        key = _update_key(self.config, task.round, task.client)
        if task.memory is not None:
            update_d += task.memory
        payload = self._compressor.encode(update_d, key)
        memory = None
        if self._params.error_feedback:
            memory = update_d - self._compressor.decode(payload, self._size, key)
        return Upload(payload, train_loss, trained - started, time.perf_counter() - trained, memory=memory)

    def evaluations(self, state: Any, round_index: int) -> dict[str, Callable[[], Forward]]:
        def mean() -> Forward:
            self.model.load_head(state)
            vector_d = torch.tensor(state["vector"], device=self.model.device)
            return lambda features: self._net(features, vector_d)

        return {"mean": mean}


class _Server(MethodServer):
    def __init__(self, config: Config, model: TaskModel, net: Vectorised) -> None:
        super().__init__(config, model)
        assert isinstance(config.method, DenseConfig)
        self._params = config.method
        self._compressor = make_compressor(self._params.compressor)
        self._vector_d = net.weights_d.detach().cpu().numpy()
        self._momentum_d = np.zeros(self._vector_d.size, np.float32) if self._params.server_momentum else None
        _compile_kernels(self._params.compressor)
        self._begin()

    def _begin(self) -> None:
        self._sum_d, self._weight = np.zeros(self._vector_d.size), 0

    def broadcast(self) -> bytes:
        # A client may never have been sampled before, so each broadcast holds the frozen head too.
        return pack_tensors({"vector": self._vector_d, **self.model.head_state()})

    def absorb(self, round_index: int, client: int, samples: int, payload: bytes) -> Absorbed:
        started = time.perf_counter()
        key = _update_key(self.config, round_index, client)
        update_d = self._compressor.decode(payload, self._vector_d.size, key)
        decode_seconds = time.perf_counter() - started
        weight = samples if self._params.weighting == "samples" else 1
        self._sum_d += weight * update_d.astype(np.float64)
        self._weight += weight
        return Absorbed(decode_seconds)

    def finish_round(self) -> None:
        mean_d = (self._sum_d / self._weight).astype(np.float32)
        if self._momentum_d is not None:
            mean_d = self._momentum_d = np.float32(self._params.server_momentum) * self._momentum_d + mean_d
        self._vector_d = self._vector_d + np.float32(self._params.server_lr) * mean_d
        self._begin()

    def state(self) -> dict[str, np.ndarray]:
        momentum = {} if self._momentum_d is None else {"momentum": self._momentum_d}
        return {"vector": self._vector_d, **momentum}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._vector_d = state["vector"].copy()
        if self._momentum_d is not None:
            self._momentum_d = state["momentum"].copy()


def _compile_kernels(params: CompressorConfig) -> None:
    """Encode and decode once, so that no later timing holds a compilation."""
    compressor = make_compressor(params)
    compressor.decode(compressor.encode(np.linspace(-1, 1, 64, dtype=np.float32), 0), 64, 0)
