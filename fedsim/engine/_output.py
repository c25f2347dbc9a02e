"""Prints of clients, which are somebody's code: shown under the client's name as they come, and kept."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

_CHARACTERS = 4_000  # kept of a client's prints in a round, the last ones


class Output(io.TextIOBase):
    """A stream that writes through to another one, each line after a prefix, and keeps the lines.

    Args:
        stream: to write to.
        prefix: of a line.
        kept: takes what is written, with the prefixes.
    """

    def __init__(self, stream: TextIO, prefix: str, kept: list[str]) -> None:
        self._stream, self._prefix, self._kept = stream, prefix, kept
        self._at_start = True

    def write(self, text: str) -> int:
        for line in text.splitlines(keepends=True):
            shown = self._prefix + line if self._at_start else line
            self._at_start = line.endswith("\n")
            self._kept.append(shown)
            self._stream.write(shown)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def named_output(name: str) -> Iterator[list[str]]:
    """Let prints in this process begin with a name, as in ``"client 3 | "``; the list has them as parts of a text."""
    kept: list[str] = []
    prefix = f"{name} | "
    with redirect_stdout(Output(sys.stdout, prefix, kept)), redirect_stderr(Output(sys.stderr, prefix, kept)):
        yield kept


def last(kept: list[str]) -> str:
    """The last of what a client printed, without an end of line; what is left out is said."""
    text = "".join(kept).rstrip()
    if len(text) > _CHARACTERS:
        return f"... {len(text) - _CHARACTERS:,} characters before\n{text[-_CHARACTERS:]}"
    return text
