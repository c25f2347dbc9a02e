"""The log of a run: what its clients printed and the whole of its errors, as ``log.txt`` in its folder."""

from __future__ import annotations

import os
import time
from datetime import datetime, timezone

from results.locations import split
from results.store import RunStore

_NAME = "log.txt"
_BYTES = 1_000_000  # kept of a log, the last ones
_SECONDS = 5.0  # least time between two writes


def read_log(path: str | os.PathLike[str]) -> str:
    """The log of the run whose folder is at ``path``, local or a URI; empty where nothing was printed and none failed.

    Raises:
        LocationError: the URI cannot be opened.
    """
    return RunLog(RunStore(*split(os.fspath(path)))).text()


class RunLog:
    """The log of one run: entries are collected, and the file is replaced as a whole, as object stores want it.

    Args:
        store: of the run; to write, this process must be its owner.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._text: str | None = None
        self._written_at = -_SECONDS
        self._changed = False

    def text(self) -> str:
        """All of it."""
        if self._text is None:
            self._text = (self._store.read_bytes(_NAME) or b"").decode("utf-8", "replace")
        return self._text

    def add(self, entry: str) -> None:
        """Add an entry under the time of day; it is written at once, or with those of the next seconds."""
        now = datetime.now(timezone.utc).isoformat(" ", "seconds")
        self._text = f"{self.text()}[{now}] {entry.rstrip()}\n"[-_BYTES:]
        self._changed = True
        if time.monotonic() - self._written_at >= _SECONDS:
            self.write()

    def write(self) -> None:
        """Write what is new. Raises OwnershipError where another process took the run over."""
        if self._changed:
            self._store.write_bytes(_NAME, self.text().encode())
            self._changed, self._written_at = False, time.monotonic()
