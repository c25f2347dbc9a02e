"""Output of a sweep in the terminal: a live panel, or a line for each run that ends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from fedsim.callbacks import Callback, Run
from fedsim.display import duration
from results import formats

if TYPE_CHECKING:
    from results.searches import Search

_SHOWN, _BEST = 8, 5


class LiveSweep(Callback):
    """Runs done, running and failed, the best so far, throughput and time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._total, self._started = 0, time.monotonic()
        self._counts = dict.fromkeys(("finished", "stopped", "failed", "reused"), 0)
        self._running: dict[str, tuple[Run, Mapping[str, Any]]] = {}
        self._best: tuple[Mapping[str, Any], Run] | None = None
        self._client_rounds = 0
        self._tried: list[dict[str, Any]] = []
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=2, transient=True)

    def __enter__(self) -> LiveSweep:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def start(self, run: Run) -> None:
        self._introduce(run)
        self._running[run.config.run_id] = run, {}

    def round(self, run: Run, row: Mapping[str, Any]) -> None:
        self._running[run.config.run_id] = run, row
        self._client_rounds += row["participants"]

    def end(self, run: Run, row: Mapping[str, Any]) -> None:
        self._introduce(run)
        self._running.pop(run.config.run_id, None)
        status = "reused" if run.reused else row["status"]
        self._counts[status] += 1
        accuracy = row.get("validation_accuracy")
        if accuracy is not None and (self._best is None or accuracy > self._best[0]["validation_accuracy"]):
            self._best = row, run
        if row.get("trial"):
            self._tried.append(dict(row))
        if not run.reused:
            number = sum(self._counts.values())
            self._print(f"{number}/{self._total}  {_values(run) or row['run_id']}  {_outcome(run, row)}")

    def _introduce(self, run: Run) -> None:
        if not self._total and run.sweep is not None:
            self._total = run.sweep.total
            self._print(f"sweep     {self._total} runs in {run.sweep.output}")

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)

    def searches(self) -> list[RenderableType]:
        """The best trials of each search, and how much each searched key mattered."""
        from results.searches import searches

        found = searches(pd.DataFrame(self._tried)) if self._tried else []
        shown = [part for search in found[:_SHOWN] for part in _search(search)]
        more = len(found) - _SHOWN
        return shown if more <= 0 else [*shown, f"... and {more} more searches: fedsim report shows all"]

    def _render(self) -> RenderableType:
        ended, seconds = sum(self._counts.values()), time.monotonic() - self._started
        computed = ended - self._counts["reused"]
        counts = ", ".join(f"{count} {status}" for status, count in self._counts.items() if count)
        totals = Table(box=None, pad_edge=False, show_header=False)
        totals.add_row("runs", f"{ended}/{self._total} ended ({counts or 'none'}), {len(self._running)} running")
        totals.add_row("", ProgressBar(total=max(self._total, 1), completed=ended, width=50))
        if self._best is not None:
            row, run = self._best
            totals.add_row("best", f"validation {_numbers(row, 'validation_accuracy')}  {_values(run)}")
        totals.add_row("speed", f"{self._client_rounds / max(seconds, 1e-9):.1f} client-rounds a second")
        if computed:
            totals.add_row("left", f"about {duration(seconds / computed * (self._total - ended))}")
        running = Table(box=None, pad_edge=False, show_header=False)
        for run, row in list(self._running.values())[:_SHOWN]:
            place = f"round {row['round']}/{run.config.rounds}" if row else "starting"
            running.add_row("  " + place, _numbers(row, "accuracy") if row else "", _values(run))
        return Group(totals, running)


def _outcome(run: Run, row: Mapping[str, Any]) -> str:
    if row["status"] != "failed":
        return f"{row['status']}  {_numbers(row, 'final_accuracy')}"
    return f"failed: {row['error'].partition(chr(10))[0]}\n          all of it: fedsim logs {run.path}"


def _search(search: Search) -> list[RenderableType]:
    ranked = search.ranked().head(_BEST).drop(columns="status")
    ranked["run_id"] = ranked.pop("run_id")  # the longest comes last
    table = Table(box=None, pad_edge=False)
    for name in ranked:
        justify: Literal["left", "right"] = "right" if name in search.objectives else "left"
        title = escape(str(name).replace("_", " "))
        table.add_column(title, justify=justify, overflow="fold", no_wrap=name != "run_id")
    for row in formats.text(ranked).itertuples(index=False):
        table.add_row(*map(escape, row))
    parts: list[RenderableType] = [f"best of {len(search.trials)} trials of {escape(search.title)}", table]
    importances = search.importances()
    for name in search.objectives if len(importances) else ():
        order = importances.sort_values(name, ascending=False)
        shares = ", ".join(f"{key} {share:.0%}" for key, share in zip(order["key"], order[name], strict=True))
        parts.append(f"importance for {name.replace('_', ' ')}: {escape(shares)}")
    return parts


def _values(run: Run) -> str:
    return ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in run.values.items()
    )


def _numbers(row: Mapping[str, Any], accuracy: str) -> str:
    parts = []
    if row.get(accuracy) is not None:
        parts.append(f"accuracy {row[accuracy]:.3f}")
    if row.get("uplink_bpp") is not None:
        parts.append(f"{row['uplink_bpp']:.4f} bpp")
    return "  ".join(parts)
