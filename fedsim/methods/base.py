"""What a federated method is: a client half, a server half and its parameters."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from deltamask import stream_key
from deltamask.payload import HEADER_BYTES
from fedsim.config import Config, MethodConfig
from fedsim.models import TaskModel

#: Maps prefix features of shape (b, ...) to logits of shape (b, classes).
Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Broadcast:
    """The state that a round starts from, as messages: a client gets what is shorter for it.

    Attributes:
        full: the message for clients that know nothing.
        update: the message for clients that have the state before; None where the method has none.
        base: what :attr:`name` was of the state before.
    """

    full: bytes
    update: bytes | None = None
    base: bytes | None = None

    @property
    def name(self) -> bytes:
        """Identifies the state: the head of its frame, which holds a checksum."""
        return self.full[:HEADER_BYTES]


@dataclass(frozen=True)
class ClientTask:
    """One client's part of one round.

    Attributes:
        round: 0 for the head's round, then 1, 2, ...
        client: index of the client.
        features: the client's prefix features, on the model's device.
        labels: int64 of shape ``(n,)``, on the same device.
        memory: what the client kept in its last round (:attr:`Upload.memory`); None before, and for most methods.
    """

    round: int
    client: int
    features: Tensor
    labels: Tensor
    memory: np.ndarray | None = None

    def batches(self, config: Config, epochs: int, inputs: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled batches of (features, labels), ``epochs`` times over; seed, round and client set their order.

        Args:
            inputs: what to draw batches of in place of the features.
        """
        inputs = self.features if inputs is None else inputs
        for epoch in range(epochs):
            key = stream_key(config.seed, "batches", self.round, self.client, epoch)
            order = np.random.Generator(np.random.Philox(key=key)).permutation(len(self.labels))
            for chosen in torch.from_numpy(order).to(inputs.device).split(config.train.batch_size):
                yield inputs[chosen], self.labels[chosen]


@dataclass(frozen=True)
class Upload:
    """What a client sends, and what it measured.

    Attributes:
        payload: the framed bytes; their length is the uplink.
        train_loss: mean training cross-entropy over the local steps, nats; None when nothing is trained.
        train_seconds, encode_seconds: wall time of the two parts.
        delta_size, sent_size: flipped and sent mask bits; None for methods without masks.
        memory: what the client keeps for its next round, float32 of shape ``(n,)``; it is not sent, but as workers come
            and go, the simulator keeps it for the client.
    """

    payload: bytes
    train_loss: float | None
    train_seconds: float
    encode_seconds: float
    delta_size: int | None = None
    sent_size: int | None = None
    memory: np.ndarray | None = None


@dataclass(frozen=True)
class Absorbed:
    """What the server learned from an upload.

    Attributes:
        decode_seconds: wall time of decoding, without aggregation.
        flips: mask bits that the server flipped, false ones included; None for methods without masks.
    """

    decode_seconds: float
    flips: int | None = None


class MethodClient(ABC):
    """The client half. A worker holds one for all its clients, so nothing may be kept from one client to the next.

    What a client must remember from one of its rounds to the next is :attr:`Upload.memory`.
    """

    def __init__(self, config: Config, model: TaskModel) -> None:
        self.config, self.model = config, model

    @abstractmethod
    def receive(self, broadcast: bytes) -> Any:
        """Decode the full message of a broadcast, once for all clients of a worker.

        Raises:
            PayloadError: the bytes are not a broadcast of this method.
        """

    def receive_update(self, update: bytes, state: Any) -> Any:
        """Decode the update of a broadcast by the state before it, which is not used again.

        Raises:
            PayloadError: the bytes are not an update of this method.
        """
        raise NotImplementedError(f"{type(self).__name__} has no updates")

    @abstractmethod
    def train(self, state: Any, task: ClientTask) -> Upload:
        """Train from a received state and encode the update."""

    @abstractmethod
    def evaluations(self, state: Any, round_index: int) -> dict[str, Callable[[], Forward]]:
        """The models to evaluate after a round by what they are: ``"mean"`` (required), ``"expected"``, ``"sampled"``.

        A value prepares the model and returns its forward pass, valid until the next one is prepared.
        """


class MethodServer(ABC):
    """The server half: the global state.

    Args:
        config: the experiment.
        model: the unchanged backbone with its head. The server of a head changes ``model.head``; others leave it.
    """

    def __init__(self, config: Config, model: TaskModel) -> None:
        self.config, self.model = config, model

    @abstractmethod
    def broadcast(self) -> bytes:
        """The whole state as bytes, for a client of the next round that knows nothing."""

    def update(self) -> bytes | None:
        """What the last finished round changed, as bytes for a client that has the state before; None: send it all."""
        return None

    @abstractmethod
    def absorb(self, round_index: int, client: int, samples: int, payload: bytes) -> Absorbed:
        """Decode one upload and add it to the round's aggregate. Called in client order, never in order of arrival.

        Raises:
            PayloadError: the bytes are not an upload of this method.
        """

    @abstractmethod
    def finish_round(self) -> None:
        """Turn the round's aggregate into the new state."""

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Everything that must survive a crash between two rounds."""

    @abstractmethod
    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take back what :meth:`state` gave."""

    def metrics(self) -> dict[str, float]:
        """Further columns of the ``rounds`` table."""
        return {}

    def digest(self) -> str:
        """First 16 hex digits of a SHA-256 over :meth:`state`."""
        sha = hashlib.sha256()
        for name, array in sorted(self.state().items()):
            sha.update(f"{name} {array.dtype} {array.shape}".encode())
            sha.update(array.tobytes())
        return sha.hexdigest()[:16]


class Method:
    """A federated method; subclasses set the attributes and are registered in :mod:`fedsim.methods`."""

    name: ClassVar[str]
    summary: ClassVar[str]
    Params: ClassVar[type[MethodConfig]] = MethodConfig
    #: Values of the ``train`` group that suit the method, for keys that a configuration does not give.
    train_defaults: ClassVar[Mapping[str, Any]] = {}
    Client: ClassVar[type[MethodClient]]
    Server: ClassVar[type[MethodServer]]

    @classmethod
    def client(cls, config: Config, model: TaskModel) -> MethodClient:
        """The client half, for a worker."""
        return cls.Client(config, model)

    @classmethod
    def server(cls, config: Config, model: TaskModel) -> MethodServer:
        """The server half, for the driver."""
        return cls.Server(config, model)
