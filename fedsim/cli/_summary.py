"""The end of a run: its tables, its folder, its picture."""

from __future__ import annotations

from pathlib import Path

import results
from fedsim.cli._app import console
from fedsim.display import summary
from fedsim.provenance import of_other_code
from fedsim.runner import RunResult


def show_result(result: RunResult) -> None:
    """Tables of its rounds and totals, and where its results and its picture are."""
    loaded = result.load()
    if result.reused:
        console.print("This run had finished before; --fresh runs it again.")
        if of_other_code(result.row):
            code = f"version {result.row['version']}, commit {result.row['git_commit'] or 'unknown'}"
            console.print(f"It was computed by other code ({code}); --same-version runs it again.", soft_wrap=True)
    console.print(*summary(loaded), sep="\n")
    console.print(f"results   {result.path}", soft_wrap=True)
    if "://" not in result.path:
        png = _draw(loaded, Path(result.path) / "report.png")
        console.print(f"picture   {png}", soft_wrap=True)


def _draw(loaded: results.Results, path: Path) -> Path:
    from results import figures  # matplotlib is slow to import, and no other command needs it

    return figures.save(figures.accuracy_and_bpp(loaded), path)
