"""Types that pass between the federation, an executor and the local trainers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeVar

import deltamask as dm
from deltamask.payload import HEADER_BYTES

N = TypeVar("N", int, float)

#: Which method a round runs: the one that fits the head, in round 0, or the one of the experiment.
PhaseName = Literal["head", "method"]


@dataclass(frozen=True)
class Broadcast:
    """The state that a round starts from, as messages: a client gets the full one, or what it lacks, a round at a time.

    Attributes:
        full: the message for clients that know nothing.
        delta: the message for clients that have the version before; None where the method has none.
        previous: :attr:`version` of the state before.
        relay: the uploads of the round before, which such clients replay, where no other message is as short. Workers
            need not do so again and again: it leads to the state of the full message, to the bit.
    """

    full: bytes
    delta: bytes | None = None
    previous: bytes | None = None
    relay: bytes | None = None

    @property
    def step(self) -> bytes:
        """The shortest message for clients that have the version before."""
        return min((m for m in (self.full, self.delta, self.relay) if m is not None), key=len)

    @property
    def version(self) -> bytes:
        """Identifies the state: the head of its frame, which holds a checksum."""
        return self.full[:HEADER_BYTES]


@dataclass(frozen=True)
class HeldOut:
    """Evaluations of two models on the samples that one client holds out of training.

    Attributes:
        held_out_samples: their number.
        client_accuracy, client_loss: of the global model that the client received; the loss is in nats.
        personal_accuracy, personal_loss: of its own model after training; None where the method has none.
    """

    held_out_samples: int
    client_accuracy: float
    client_loss: float
    personal_accuracy: float | None = None
    personal_loss: float | None = None

    def columns(self) -> dict[str, Any]:
        """Columns of the ``clients`` table."""
        return asdict(self)


@dataclass(frozen=True)
class Upload:
    """One client's upload in one round, and what was measured of it.

    Attributes:
        client: index of the client.
        samples: its number of training samples.
        update: what it sent.
        train_loss: mean training cross-entropy over the local steps, nats; None when nothing is trained.
        train_seconds, encode_seconds: wall time of the two parts.
        kept: whether the client keeps something for its next round, which is not sent.
        attempt: 1, or more when it was computed again because a worker was lost.
        error: what went wrong, and below it where; ``update`` is empty then. None where nothing did.
        output: what it printed, each line after its name, which is not sent.
        held_out: how the client fares, which is not sent; None where that is not evaluated.
    """

    client: int
    samples: int
    update: dm.Update
    train_loss: float | None
    train_seconds: float
    encode_seconds: float
    kept: bool = False
    attempt: int = 1
    error: str | None = None
    held_out: HeldOut | None = None
    output: str = ""

    def without_payload(self) -> Upload:
        """The same with nothing to send."""
        return replace(self, update=replace(self.update, payload=b""))


@dataclass(frozen=True)
class EvaluationSums:
    """Correct predictions and summed cross-entropy (nats) over some samples.

    Attributes:
        tempered: of a head, the summed cross-entropy with its logits divided by some temperatures.
        uniform: the same, if all classes were as likely.
        of_classes: samples of each class; empty where classes are not told apart.
        correct_of_classes: how many of them are predicted correctly.
    """

    samples: int
    correct: int
    loss: float
    tempered: tuple[float, ...] = ()
    uniform: tuple[float, ...] = ()
    of_classes: tuple[int, ...] = ()
    correct_of_classes: tuple[int, ...] = ()

    def __add__(self, other: EvaluationSums) -> EvaluationSums:
        return EvaluationSums(
            self.samples + other.samples,
            self.correct + other.correct,
            self.loss + other.loss,
            _added(self.tempered, other.tempered),
            _added(self.uniform, other.uniform),
            _added(self.of_classes, other.of_classes),
            _added(self.correct_of_classes, other.correct_of_classes),
        )


def _added(one: tuple[N, ...], other: tuple[N, ...]) -> tuple[N, ...]:
    return tuple(map(sum, zip(one, other, strict=True)))


#: Evaluations of a piece by what was evaluated, as :meth:`MethodClient.evaluations` names it.
PieceSums = dict[str, EvaluationSums]


def total(pieces: list[PieceSums], name: str) -> EvaluationSums:
    """The sums of one evaluation over pieces, of which there is at least one."""
    first, *others = (piece[name] for piece in pieces)
    return sum(others, first)


@dataclass(frozen=True)
class Ready:
    """Images whose prefix features are there on a node, whoever computed them, of all that it needs."""

    images: int
    total: int


@dataclass(frozen=True)
class Prepared:
    """The work of a worker before the first round.

    Attributes:
        images: images whose prefix features it computed itself.
        corrupt: undecodable images of both splits, whoever found them.
        seconds: wall time that this took, with waiting for other processes that were at it.
        warnings: what was tolerated.
    """

    images: int
    corrupt: int
    seconds: float
    warnings: tuple[str, ...]
