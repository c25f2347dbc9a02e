"""Methods that send a dense update of some vector, such as weights, biases or low-rank factors.

The vector is trained at the client; its difference goes through a compressor; the server adds the mean of the
differences. A subclass of :class:`DenseMethod` says what the vector is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, SerializeAsAny, field_validator

from deltamask.parallel import over_indices
from fedsim.compression import COMPRESSORS, compile_compressor
from fedsim.compression.none import NoneSettings
from fedsim.methods.base import MethodClient, MethodServer
from fedsim.methods.phase import Method
from fedsim.methods.privacy import ClientPrivacy
from fedsim.methods.robust import robust_mean
from fedsim.methods.updates import CompressedUpdates, DenseClient, FlatFunction, UpdateSettings, known_start
from fedsim.methods.wire import pack_changed, unpack_changed
from fedsim.models import TaskModel
from fedsim.settings import CompressorSettings, Experiment, unless_default, validate_member


class DenseSettings(UpdateSettings):
    """Parameters of methods whose server adds the mean update."""

    server_lr: float = Field(1.0, gt=0, le=100, description="factor of the mean update")
    server_momentum: float = Field(0.0, ge=0, lt=1, description="momentum of the mean update")
    aggregation: Literal["mean", "trimmed-mean", "median"] = Field(
        "mean",
        description="mean of the updates, or of each entry without its extremes or the median: against hostile clients",
        json_schema_extra=unless_default,
    )
    trim: float = Field(
        0.2,
        ge=0,
        lt=0.5,
        description="share of the updates that a trimmed mean cuts at either end of each entry",
        json_schema_extra=unless_default,
    )
    downlink: SerializeAsAny[CompressorSettings] = Field(
        default_factory=NoneSettings,
        description="group of the compressor of what the server changes; clients then hold the coarser model, and the "
        "server adds what compression lost to its next change",
    )

    only_with: ClassVar[Mapping[str, tuple[str, tuple[Any, ...]]]] = {"trim": ("aggregation", ("trimmed-mean",))}

    @property
    def cut(self) -> str | None:
        return None if self.aggregation == "mean" else "aggregation"

    @property
    def weighted(self) -> bool:
        return self.cut is None and super().weighted  # the others count all clients alike

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


def _relayed(params: DenseSettings, experiment: Experiment) -> bool:
    """Whether uploads may be relayed: not where clients may see the noised sum alone."""
    return params.relayed and experiment.privacy.client_clip is None


def _start(params: DenseSettings, experiment: Experiment, model: TaskModel, net: FlatFunction) -> dict[str, np.ndarray]:
    more = {}
    if not params.exact_downlink:
        more["step"] = np.zeros(1, np.float32)  # counts the rounds: whoever missed some gets their deltas one by one
    elif _relayed(params, experiment) and params.server_momentum:  # who replays a round needs it too
        more["momentum"] = np.zeros(net.weights_d.numel(), np.float32)
    return known_start(model, net, **more)


class _Client(DenseClient[DenseSettings]):
    def __init__(self, params: DenseSettings, experiment: Experiment, model: TaskModel, net: FlatFunction) -> None:
        super().__init__(params, experiment, model, net, _start(params, experiment, model, net))
        size = net.weights_d.numel()
        self._downlink = CompressedUpdates(params.downlink, experiment.seed, "downlink", size)

    def receive_delta(self, delta: bytes, state: Any) -> Any:
        step = state["step"] + np.float32(1)
        return {**state, "step": step, "vector": state["vector"] + self._downlink.decode(delta, int(step[0]))}


class _Server(MethodServer[DenseSettings]):
    counts_late = True
    adds_noise: ClassVar[bool] = True

    def __init__(self, params: DenseSettings, experiment: Experiment, model: TaskModel, net: FlatFunction) -> None:
        super().__init__(params, experiment, model)
        self._start = _start(params, experiment, model, net)
        self._vector_d, self._step = self._start["vector"], 0
        size = self._vector_d.size
        self._compressed = CompressedUpdates(params.compressor, experiment.seed, "compression", size)
        self._downlink = CompressedUpdates(params.downlink, experiment.seed, "downlink", size)
        self._momentum_d = np.zeros(size if params.server_momentum else 0, np.float32)
        self._unsent_d = np.zeros(0 if params.exact_downlink else size, np.float32)
        self._privacy = ClientPrivacy(experiment.privacy, experiment.seed)
        self._delta: bytes | None = None
        self._begin()

    def _begin(self) -> None:
        self._sum_d, self._weight = np.zeros(self._vector_d.size if self.params.cut is None else 0), 0
        self._updates: list[np.ndarray] = []  # where the aggregate needs them all

    def broadcast(self) -> bytes:
        # A client may never have been sampled before, so each broadcast holds the frozen head too.
        state = {"vector": self._vector_d, "step": np.array([self._step], np.float32), "momentum": self._momentum_d}
        state |= self.model.head_state()
        return pack_changed({name: state[name] for name in self._start}, self._start)

    def delta(self) -> bytes | None:
        return self._delta

    def decode(self, round_index: int, client: int, payload: bytes) -> np.ndarray:
        return self._privacy.clipped(self._compressed.decode(payload, round_index, client))  # it may be longer again

    def accumulate(self, decoded: np.ndarray, weight: int) -> None:
        if self.params.aggregation == "mean":
            _add(decoded.size, self._sum_d, decoded, weight)
            self._weight += weight
        else:
            self._updates.append(decoded)

    def finish_round(self) -> None:
        if self._privacy.on:
            self._sum_d += self._privacy.noise(self._sum_d.size)
        if self.params.aggregation == "mean":
            update_d = (self._sum_d / self._weight).astype(np.float32)
        else:
            update_d = robust_mean(self._updates, self.params.aggregation, self.params.trim)
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
        return _relayed(self.params, self.experiment)

    def adopt(self, broadcast: bytes) -> None:
        received = unpack_changed(broadcast, self._start)
        self.model.load_head(received)
        self._vector_d = received["vector"]
        self._momentum_d = received.get("momentum", self._momentum_d)

    def state(self) -> dict[str, np.ndarray]:
        state = {"vector": self._vector_d} | self._privacy.state()
        if self.params.server_momentum:
            state["momentum"] = self._momentum_d
        if not self.params.exact_downlink:
            state |= {"unsent": self._unsent_d, "step": np.array([self._step], np.int64)}
        return state

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._vector_d, self._delta = state["vector"].copy(), None
        self._privacy.restore(state)
        if self.params.server_momentum:
            self._momentum_d = state["momentum"].copy()
        if not self.params.exact_downlink:
            self._unsent_d, self._step = state["unsent"].copy(), int(state["step"][0])


@over_indices()
def _add(start, stop, sum_d, values_d, weight):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(start), np.uint64(stop)):
        sum_d[i] += weight * np.float64(values_d[i])


class DenseMethod(Method):
    """A method whose update is the change of one vector; a subclass says which by :meth:`flatten`."""

    Params: ClassVar[type[UpdateSettings]] = DenseSettings
    train_defaults: ClassVar[Mapping[str, Any]] = {"lr": 1e-3}
    #: Halves, which get the network of :meth:`flatten` beside the arguments of others.
    Client: ClassVar[Any] = _Client
    Server: ClassVar[Any] = _Server

    @classmethod
    @abstractmethod
    def flatten(cls, params: Any, experiment: Experiment, model: TaskModel) -> FlatFunction:
        """The model's network as a function of what the method trains; an ``nn.Module`` goes to the model's device."""

    @classmethod
    def client(cls, params: Any, experiment: Experiment, model: TaskModel) -> MethodClient[Any]:
        return cls.Client(params, experiment, model, cls.flatten(params, experiment, model))

    @classmethod
    def server(cls, params: Any, experiment: Experiment, model: TaskModel) -> MethodServer[Any]:
        return cls.Server(params, experiment, model, cls.flatten(params, experiment, model))

    @classmethod
    def compile_kernels(cls, params: UpdateSettings) -> None:
        compile_compressor(params.compressor)
        values_d = np.zeros(1, np.float32)
        for sent_d in (values_d, np.frombuffer(values_d.tobytes(), np.float32)):  # received ones cannot be written to
            _add(1, np.zeros(1), sent_d, 1)
        if isinstance(params, DenseSettings):
            compile_compressor(params.downlink)
