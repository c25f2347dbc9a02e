"""Something that reads bytes from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        name: for the record.
        share: of the messages that it gets, against those of others.
        seeds: messages that are right.
        parse: reads a message.
        errors: what it may raise.
    """

    name: str
    share: float
    seeds: list[bytes]
    parse: Callable[[bytes], object]
    errors: type[Exception] | tuple[type[Exception], ...]
