"""Callbacks: who is told of a run, of single ones and of those of a sweep alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedsim.config import Config


@dataclass(frozen=True)
class Sweep:
    """The sweep that a run belongs to.

    Attributes:
        name: the stem of its file; ``sweep`` without one.
        total: number of its runs.
        output: folder of all runs, a local path or a URI.
    """

    name: str
    total: int
    output: str


@dataclass(frozen=True)
class Run:
    """A run as callbacks see it.

    Attributes:
        config: its configuration.
        path: its folder, a local path or a URI, for :func:`results.load`.
        stored: rows of the ``rounds`` table that earlier attempts stored; the run goes on after them. Empty for a run
            of a sweep, whose rows come with :meth:`Callback.round` alone.
        values: what it has of a sweep's keys.
        reused: it had finished before and is not computed again.
        sweep: its sweep; None for a single run.
        phase: gives what the run is at, in words, such as ``"round 3"``; empty where that is not known.
    """

    config: Config
    path: str
    stored: Sequence[Mapping[str, Any]] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    reused: bool = False
    sweep: Sweep | None = None
    phase: Callable[[], str] = field(default=lambda: "", repr=False, compare=False)


class Callback:
    """Three moments of a run; a subclass does something at those that it cares for.

    All are called in the process that called :func:`fedsim.run` or :func:`fedsim.sweep`, one at a time. The runs of a
    sweep go on side by side, so that a callback tells them apart by ``run.config.run_id``. One that raises is told
    nothing more: a single run ends as ``failed``, with all rounds so far stored; a sweep goes on and raises at its end.
    """

    def start(self, run: Run) -> None:
        """The run begins, or goes on after ``run.stored``. A run that is reused has no start."""

    def round(self, run: Run, row: Mapping[str, Any]) -> None:
        """A round is over; its row of the ``rounds`` table. Round 0 fits the head."""

    def end(self, run: Run, row: Mapping[str, Any]) -> None:
        """The run is over and stored, whatever its ``status``; its row of the ``runs`` table."""
