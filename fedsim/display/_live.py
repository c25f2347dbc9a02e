"""A run in the terminal while it goes on: a bar, or a line a round where the output is not a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from fedsim.callbacks import Run
from fedsim.display._progress import RunProgress


class LiveProgress(RunProgress):
    """Shows what a run is at, from its start on: its phase, rounds, accuracy, bpp and time left.

    Prints of clients appear above the bar. Where the output is not a terminal, each round is a line.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console, self._spinner = console, Spinner("dots")
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveProgress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def start(self, run: Run) -> None:
        super().start(run)
        if self._console.is_terminal:
            self._print(f"run       {run.path}")
        if run.stored:
            self._print(f"going on after round {self.completed}")

    def round(self, run: Run, row: Mapping[str, Any]) -> None:
        super().round(run, row)
        if not self._console.is_terminal:
            parts = (f"round {self.completed}/{self.total}", self.numbers, f"{self.seconds:.1f} s", self.left)
            self._print("  ".join(part for part in parts if part))

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)

    def _render(self) -> RenderableType:
        line = Table.grid(padding=(0, 1))
        for _ in range(5):
            line.add_column(no_wrap=True)
        line.add_row(
            self._spinner,
            f"round {self.completed}/{self.total}" if self.run is not None else "",
            ProgressBar(total=max(self.total, 1), completed=self.completed, width=20),
            self.numbers,
            self.left,
        )
        return Group(line, Text(f"  {self.phase}", style="dim"))
