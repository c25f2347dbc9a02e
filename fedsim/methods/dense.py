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
from fedsim.methods.wire import pack_changed, unpack_changed
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
    downlink: SerializeAsAny[CompressorSettings] = Field(
        default_factory=NoneSettings,
        description="group of the compressor of what the server changes; clients then hold the coarser model, and the "
        "server adds what compression lost to its next change",
    )

    @property
    def weighted(self) -> bool:
        return self.weighting == "samples"

    @property
    def exact_downlink(self) -> bool:
        """Whether clients get the server's model and not a coarser one."""
        return self.downlink == NoneSettings()

    @property
    def relayed(self) -> bool:
        """Whether uploads may be relayed in place of the model: not where each is as long as the model."""
        return self.exact_downlink and self.compressor.name != "none"

    @field_validator("downlink", mode="before")
    @classmethod
    def _downlink_parameters(cls, value: Any) -> Any:
        return validate_member(value, COMPRESSORS, "none")

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
        return _Client(params, experiment, model, cls.flatten(params, experiment, model))

    @classmethod
    def server(cls, params: Any, experiment: Experiment, model: TaskModel) -> MethodServer[Any]:
        return _Server(params, experiment, model, cls.flatten(params, experiment, model))

    @classmethod
    def compile_kernels(cls, params: DenseSettings) -> None:
        compressor = make_compressor(params.compressor)
        compressor.decode(compressor.encode(np.linspace(-1, 1, 64, dtype=np.float32), 0), 64, 0)


class _Compressed:
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


class _Client(MethodClient[DenseSettings]):
    def __init__(self, params: DenseSettings, experiment: Experiment, model: TaskModel, net: FlatFunction) -> None:
        super().__init__(params, experiment, model)
        self._net = net.to(model.device) if isinstance(net, nn.Module) else net
        self._start = _start(params, model, net)
        self._compressed = _Compressed(params.compressor, experiment.seed, "compression", self._start["vector"].size)
        self._downlink = _Compressed(params.downlink, experiment.seed, "downlink", self._start["vector"].size)
        self._training = LocalTraining(experiment.train, experiment.seed)

    def receive(self, broadcast: bytes) -> Any:
        return unpack_changed(broadcast, self._start)

    def receive_delta(self, delta: bytes, state: Any) -> Any:
        step = state["step"] + np.float32(1)
        return {**state, "step": step, "vector": state["vector"] + self._downlink.decode(delta, int(step[0]))}

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


def _start(params: DenseSettings, model: TaskModel, net: FlatFunction) -> dict[str, np.ndarray]:
    """The arrays of a broadcast as everyone knows them before the first round."""
    vector_d = net.weights_d.detach().cpu().numpy()
    state = {"vector": vector_d}
    if not params.exact_downlink:
        state["step"] = np.zeros(1, np.float32)  # counts the rounds: whoever missed some gets their deltas one by one
    elif params.relayed and params.server_momentum:  # who replays a round needs it too
        state["momentum"] = np.zeros(vector_d.size, np.float32)
    return state | {name: np.zeros(shape, np.float32) for name, shape in model.head_shapes().items()}


class _Server(MethodServer[DenseSettings]):
    def __init__(self, params: DenseSettings, experiment: Experiment, model: TaskModel, net: FlatFunction) -> None:
        super().__init__(params, experiment, model)
        self._start = _start(params, model, net)
        self._vector_d, self._step = self._start["vector"], 0
        size = self._vector_d.size
        self._compressed = _Compressed(params.compressor, experiment.seed, "compression", size)
        self._downlink = _Compressed(params.downlink, experiment.seed, "downlink", size)
        self._momentum_d = np.zeros(size if params.server_momentum else 0, np.float32)
        self._unsent_d = np.zeros(0 if params.exact_downlink else size, np.float32)
        self._delta: bytes | None = None
        self._begin()

    def _begin(self) -> None:
        self._sum_d, self._weight = np.zeros(self._vector_d.size), 0

    def broadcast(self) -> bytes:
        # A client may never have been sampled before, so each broadcast holds the frozen head too.
        state = {"vector": self._vector_d, "step": np.array([self._step], np.float32), "momentum": self._momentum_d}
        state |= self.model.head_state()
        return pack_changed({name: state[name] for name in self._start}, self._start)

    def delta(self) -> bytes | None:
        return self._delta

    def decode(self, round_index: int, client: int, payload: bytes) -> np.ndarray:
        return self._compressed.decode(payload, round_index, client)

    def accumulate(self, decoded: np.ndarray, weight: int) -> None:
        self._sum_d += weight * decoded.astype(np.float64)
        self._weight += weight

    def finish_round(self) -> None:
        update_d = (self._sum_d / self._weight).astype(np.float32)
        if self.params.server_momentum:
            update_d = self._momentum_d = np.float32(self.params.server_momentum) * self._momentum_d + update_d
        update_d = np.float32(self.params.server_lr) * update_d
        if not self.params.exact_downlink:
            self._step += 1
            self._delta = self._downlink.encode(update_d + self._unsent_d, self._step)
            sent_d = self._downlink.decode(self._delta, self._step)
            self._unsent_d, update_d = update_d + self._unsent_d - sent_d, sent_d
        self._vector_d = self._vector_d + update_d
        self._begin()

    @property
    def replayable(self) -> bool:
        return self.params.relayed

    def adopt(self, broadcast: bytes) -> None:
        received = unpack_changed(broadcast, self._start)
        self.model.load_head(received)
        self._vector_d = received["vector"]
        self._momentum_d = received.get("momentum", self._momentum_d)

    def state(self) -> dict[str, np.ndarray]:
        state = {"vector": self._vector_d}
        if self.params.server_momentum:
            state["momentum"] = self._momentum_d
        if not self.params.exact_downlink:
            state |= {"unsent": self._unsent_d, "step": np.array([self._step], np.int64)}
        return state

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._vector_d, self._delta = state["vector"].copy(), None
        if self.params.server_momentum:
            self._momentum_d = state["momentum"].copy()
        if not self.params.exact_downlink:
            self._unsent_d, self._step = state["unsent"].copy(), int(state["step"][0])
