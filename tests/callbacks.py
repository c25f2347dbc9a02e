"""A callback of functions."""

from collections.abc import Callable, Mapping
from typing import Any

import fedsim


class Told(fedsim.Callback):
    """Calls functions at the moments of one run."""

    def __init__(
        self,
        round: Callable[[Mapping[str, Any]], object] | None = None,
        start: Callable[[fedsim.Run], object] | None = None,
    ) -> None:
        self._round, self._start = round, start

    def start(self, run: fedsim.Run) -> None:
        if self._start is not None:
            self._start(run)

    def round(self, run: fedsim.Run, row: Mapping[str, Any]) -> None:
        if self._round is not None:
            self._round(row)
