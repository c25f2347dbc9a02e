"""A run in a notebook while it goes on."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from fedsim.callbacks import Run
from fedsim.display._progress import RunProgress
from fedsim.errors import ConfigError


class NotebookProgress(RunProgress):
    """A bar below the cell: ``fedsim.run(config, callbacks=[NotebookProgress()])``.

    Raises:
        ConfigError: IPython is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            from IPython.display import HTML, display
        except ImportError as error:
            raise ConfigError("callbacks: NotebookProgress needs IPython, which a notebook brings") from error
        self._html = HTML
        self._handle = display(HTML(self._page()), display_id=True)

    def start(self, run: Run) -> None:
        super().start(run)
        self._show()

    def round(self, run: Run, row: Mapping[str, Any]) -> None:
        super().round(run, row)
        self._show()

    def end(self, run: Run, row: Mapping[str, Any]) -> None:
        self._show(str(row["status"]))

    def _show(self, status: str = "") -> None:
        if self._handle is not None:  # outside a notebook there is nothing to update
            self._handle.update(self._html(self._page(status)))

    def _page(self, status: str = "") -> str:
        words = [
            f"round {self.completed}/{self.total}" if self.run else "",
            self.numbers,
            status or self.left or self.phase,
        ]
        text = html.escape(" · ".join(word for word in words if word))
        return f'<progress value="{self.completed}" max="{max(self.total, 1)}"></progress> {text}'
