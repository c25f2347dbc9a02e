"""The interface of federated methods: the hooks of a client and of a server, without a clock or I/O."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from torch import Tensor

import deltamask as dm
from deltamask.uploads import split_weight, unpack_relay
from fedsim.models import TaskModel
from fedsim.settings import Experiment, PhaseSettings

#: Maps prefix features of shape (b, ...) to logits of shape (b, classes).
Forward = Callable[[Tensor], Tensor]

#: Maps what a client changed, float32 of shape (n,), to what it sends if it is hostile.
Attack = Callable[[np.ndarray], np.ndarray]

#: The parameters of a method or a head.
P = TypeVar("P", bound=PhaseSettings)


@dataclass(frozen=True)
class ClientTask:
    """One client's part of one round.

    Attributes:
        round: 0 for the head's round, then 1, 2, ...
        client: index of the client.
        features: the client's prefix features, on the model's device.
        labels: int64 of shape ``(n,)``, on the same device.
        client_state: what the client kept of its last round (:meth:`MethodClient.keep`); None before, and for most
            methods.
    """

    round: int
    client: int
    features: Tensor
    labels: Tensor
    client_state: np.ndarray | None = None


@dataclass(frozen=True)
class Trained:
    """The result of local training.

    Attributes:
        value: what :meth:`MethodClient.encode` takes, such as the client's probabilities or its update.
        loss: mean training cross-entropy over the local steps, nats; None when nothing is trained.
    """

    value: Any
    loss: float | None = None


class MethodClient(ABC, Generic[P]):
    """The client half. A worker holds one for all its clients, so nothing may be kept from one client to the next.

    What a client must remember from one of its rounds to the next is what :meth:`keep` returns.

    Args:
        params: the method's parameters, an instance of its ``Params``.
        experiment: what it may know beside them.
        model: the backbone with its head; other hooks may have changed it, so each sets what it needs.
    """

    def __init__(self, params: P, experiment: Experiment, model: TaskModel) -> None:
        self.params, self.experiment, self.model = params, experiment, model

    @abstractmethod
    def receive(self, broadcast: bytes) -> Any:
        """Decode the full message of a broadcast, once for all clients of a worker.

        Raises:
            PayloadError: the bytes are not a broadcast of this method.
        """

    def receive_delta(self, delta: bytes, state: Any) -> Any:
        """Decode the delta of a broadcast by the state before it, which is not used again.

        Raises:
            PayloadError: the bytes are not a delta of this method.
        """
        raise NotImplementedError(f"{type(self).__name__} has no deltas")

    def warm_up(self, features: Tensor) -> None:
        """Compile what a step needs, with some prefix features; called once, before the first round.

        Raises:
            ResourceError: ``train.compile`` is on and does not work here.
        """

    @abstractmethod
    def train(self, state: Any, task: ClientTask) -> Trained:
        """Train from a received state."""

    def train_together(self, state: Any, tasks: Sequence[ClientTask]) -> list[Trained]:
        """Train at most ``train.together`` clients at once; what comes of each does not depend on the others."""
        raise NotImplementedError(f"{type(self).__name__} trains one client at a time")

    @classmethod
    def trains_together(cls) -> bool:
        """Whether :meth:`train_together` does what :meth:`train` does: not where a subclass has changed one alone."""
        owners = [owner for owner in cls.__mro__ if {"train", "train_together"} & vars(owner).keys()]
        return owners[0] is not MethodClient and "train_together" in vars(owners[0])

    def attacked(self, trained: Any, state: Any, attack: Attack) -> Any:
        """Give a hostile client's :attr:`Trained.value` for what training gave, by an attack on what it changed."""
        raise NotImplementedError(f"{type(self).__name__} has no attack")

    @classmethod
    def can_attack(cls) -> bool:
        """Whether there is :meth:`attacked`."""
        return cls.attacked is not MethodClient.attacked

    @abstractmethod
    def encode(self, trained: Any, state: Any, task: ClientTask) -> dm.Update:
        """Encode what training gave (:attr:`Trained.value`) as the bytes to send."""

    def keep(self, trained: Any, update: dm.Update, task: ClientTask) -> np.ndarray | None:
        """The client's state for its next round, float32 of shape ``(n,)``; None: nothing is kept.

        It is not sent, but as workers come and go, the simulator keeps it for the client.
        """
        return None

    def personal(self, trained: Any, state: Any, task: ClientTask) -> Forward | None:
        """The client's own model, from what training gave, valid until the next one is prepared; None: it has none."""
        return None

    @abstractmethod
    def evaluations(self, state: Any, round_index: int) -> dict[str, Callable[[], Forward]]:
        """The models to evaluate after a round by what they are: ``"mean"`` (required), ``"expected"``, ``"sampled"``.

        ``"mean"`` is the one to keep.

        A value prepares the model and returns its forward pass, valid until the next one is prepared.
        """


class MethodServer(ABC, Generic[P]):
    """The server half: the global state.

    Args:
        params: the method's parameters, an instance of its ``Params``.
        experiment: what it may know beside them.
        model: the unchanged backbone with its head. The server of a head changes the model's head; others leave it.

    Attributes:
        counts_late: whether an upload of a client that started from an earlier state may be accumulated, with less
            weight; it is decoded by that state.
    """

    counts_late: ClassVar[bool] = False

    def __init__(self, params: P, experiment: Experiment, model: TaskModel) -> None:
        self.params, self.experiment, self.model = params, experiment, model

    @abstractmethod
    def broadcast(self) -> bytes:
        """The whole state as bytes, for a client of the next round that knows nothing."""

    def delta(self) -> bytes | None:
        """The change by the last finished round, as bytes for a client that has the state before; None: send it all."""
        return None

    @abstractmethod
    def decode(self, round_index: int, client: int, payload: bytes) -> Any:
        """Decode one upload: a :class:`deltamask.Decoded`, or whatever :meth:`accumulate` takes.

        Several uploads of a round may be decoded at once, in threads.

        Raises:
            PayloadError: the bytes are not an upload of this method.
        """

    @abstractmethod
    def accumulate(self, decoded: Any, weight: int) -> None:
        """Add a decoded upload to the round's aggregate; called in client order, never in order of arrival.

        ``weight`` is the client's number of training samples, which it sent, where the parameters are ``weighted``;
        else 1.
        """

    @abstractmethod
    def finish_round(self) -> None:
        """Turn the round's aggregate into the new state."""

    @property
    def replayable(self) -> bool:
        """Whether whoever has the last broadcast and gets a round's uploads can compute the next state: :meth:`adopt`.

        Then the uploads are relayed to clients where that is shorter than what the server would say of them.
        """
        return False

    def adopt(self, broadcast: bytes) -> None:
        """Take the state of a broadcast's full message, to replay the rounds after it.

        Raises:
            PayloadError: the bytes are not a broadcast of this method.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be replayed")

    def replay(self, relay: bytes) -> None:
        """Compute the next state from a round's uploads, as :func:`~deltamask.uploads.pack_relay` packs them.

        Raises:
            PayloadError: the bytes are no uploads of this method.
        """
        round_index, uploads = unpack_relay(relay)
        for client, upload in uploads:
            content, weight = split_weight(upload, self.params.weighted)
            self.accumulate(self.decode(round_index, client, content), weight)
        self.finish_round()

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
