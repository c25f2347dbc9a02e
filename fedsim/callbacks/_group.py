"""All callbacks of a run or sweep as one; an error of one names it and keeps nothing from the others."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fedsim.callbacks._callback import Callback, Run
from fedsim.errors import CallbackError, FedsimError


class CallbackGroup(Callback):
    """Tells all of some callbacks. One that raises is told nothing more.

    Args:
        callbacks: in the order in which they are told.

    Attributes:
        error: of the first one that raised; None while none did.
    """

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self._callbacks = list(callbacks)
        self.error: CallbackError | None = None
        for callback in self._callbacks:
            if not isinstance(callback, Callback):
                raise CallbackError(f"callbacks: found {callback!r}, allowed: objects of subclasses of fedsim.Callback")

    def start(self, run: Run) -> None:
        for callback in self._each():
            with self._named(callback, f"at the start of {run.config.run_id}"):
                callback.start(run)

    def round(self, run: Run, row: Mapping[str, Any]) -> None:
        for callback in self._each():
            with self._named(callback, f"after round {row['round']} of {run.config.run_id}"):
                callback.round(run, row)

    def end(self, run: Run, row: Mapping[str, Any]) -> None:
        for callback in self._each():
            with self._named(callback, f"at the end of {run.config.run_id}"):
                callback.end(run, row)

    def check(self) -> None:
        """Raise the error of the first callback that raised, if one did."""
        if self.error is not None:
            raise self.error

    def _each(self) -> Iterator[Callback]:
        return iter(list(self._callbacks))

    @contextmanager
    def _named(self, callback: Callback, moment: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._callbacks.remove(callback)
            kind = type(callback)
            reason = str(error) if isinstance(error, FedsimError) else f"{type(error).__name__}: {error}"
            named = CallbackError(
                f"the callback {kind.__module__}.{kind.__qualname__} failed {moment}: {reason}; what was computed is "
                "stored, and the same command goes on"
            )
            named.__cause__, named.details = error, "".join(traceback.format_exception(error)).rstrip()
            self.error = self.error or named
