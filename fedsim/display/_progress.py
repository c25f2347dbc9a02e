"""The progress of one run in numbers and words, for whatever shows it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from fedsim.callbacks import Callback, Run
from fedsim.display._tables import duration


class RunProgress(Callback):
    """Follows a run; other classes show it.

    Attributes:
        run: the run; None before its start.
        total, completed: rounds, that of the head not counted.
    """

    def __init__(self) -> None:
        self.run: Run | None = None
        self.total, self.completed = 0, 0
        self._began = time.monotonic()
        self._first: tuple[int, float] | None = None  # the first round of this attempt, and when it was over
        self._ended_at = 0.0
        self._row: dict[str, Any] = {}

    def start(self, run: Run) -> None:
        self.run, self.total = run, run.config.rounds
        self.completed = run.stored[-1]["round"] if run.stored else 0

    def round(self, run: Run, row: Mapping[str, Any]) -> None:
        self._row |= {key: value for key, value in row.items() if value is not None}  # also of the last evaluation
        self.completed, self._ended_at = row["round"], time.monotonic()
        self._first = self._first or (row["round"], self._ended_at)

    @property
    def phase(self) -> str:
        """The work in progress, in words, with the seconds since the beginning while no round is over."""
        phase = (self.run.phase() if self.run is not None else "") or "starting"
        return phase if self._row else f"{phase}, {duration(time.monotonic() - self._began)}"

    @property
    def numbers(self) -> str:
        """Accuracy and bits of the last round; empty before."""
        if not self._row:
            return ""
        accuracy = self._row.get("accuracy", float("nan"))
        return f"accuracy {accuracy:.3f}  uplink {self._row['uplink_bpp']:.4f} bpp"

    @property
    def seconds(self) -> float:
        """Wall time of the last round."""
        return float(self._row.get("round_seconds", 0.0))

    @property
    def seconds_left(self) -> float | None:
        """Time to the last round, as the rounds of this attempt took; None before the second of them."""
        if self._first is None or self._first[0] == self.completed:
            return None
        each = (self._ended_at - self._first[1]) / (self.completed - self._first[0])
        return each * (self.total - self.completed)

    @property
    def left(self) -> str:
        """The same in words; empty where it is not known."""
        seconds = self.seconds_left
        return f"{duration(seconds)} left" if seconds is not None and self.completed < self.total else ""
