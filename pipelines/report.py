"""The page of this repository's own results: the demo's report, and every benchmark as a sortable table.

    python -m pipelines.report

Reads ``results/benchmarks`` and writes ``docs/report.html``, with a picture of its top in ``docs/report.png`` where
Chromium is installed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

import pandas as pd

import results
from pipelines.benchmarks.methods.__main__ import summary
from results import page, report, tables

_SOURCES = ["command", "version", "git_commit", "machine"]
_FIRST = ("demo", "methods")
_DETAILS = ("rounds", "clients", "tuning")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_Blocks = list[page.Table | page.Picture | page.Text | page.Fold]


def build(benchmarks: Path) -> str:
    """The page as HTML.

    Args:
        benchmarks: a folder with a folder for each benchmark, which holds a run or flat Parquet files and pictures.
    """
    sections = []
    for file in shown_files(benchmarks):
        if file.name == "run.parquet":
            sections.append(_run(file.parent))
        else:
            name = file.parent.name if file.stem == "runs" else file.stem
            sections.append(page.Section(name.capitalize(), _benchmark(file)))
    return page.render(
        "fedsim: committed results", sections, "Made by python -m pipelines.report from the Parquet files"
    )


def shown_files(benchmarks: Path) -> list[Path]:
    """The Parquet files that the page shows: not those with rounds, clients and the trials of searches."""
    files = [file for file in benchmarks.glob("*/*.parquet") if not file.stem.endswith(_DETAILS)]
    return sorted(files, key=lambda file: (file.parent.name not in _FIRST, file))


def _run(folder: Path) -> page.Section:
    """The report of a run in one section: comparison and figures in full, the rest folded."""
    loaded = results.load(folder)
    blocks: _Blocks = [page.Text(report.overview(loaded.runs))]
    for section in report.sections(loaded, report.draw(loaded)):
        if section.title in ("Accuracy and bytes", "Figures"):
            blocks += section.blocks
        else:
            plain = [block for block in section.blocks if not isinstance(block, page.Fold)]
            nested = [block for block in section.blocks if isinstance(block, page.Fold)]
            blocks += [page.Fold(section.title, plain)] if plain else []
            blocks += nested
    return page.Section(folder.name.capitalize(), blocks)


def _benchmark(file: Path) -> _Blocks:
    """A flat table of measurements: summarised where its rows are runs of methods over seeds, with its pictures."""
    frame = pd.read_parquet(file)
    sources = [name for name in _SOURCES if name in frame]
    rows = page.Table(frame.drop(columns=[*sources, *(["config"] if "config" in frame else [])]))
    blocks: _Blocks = [rows]
    if {"label", "alpha", "seed"} <= set(frame):
        blocks = [*_totals(frame), page.Fold(f"All {len(frame)} runs", [rows])]
    if (picture := file.with_suffix(".png")).exists():
        blocks.insert(-1, page.Picture(picture.read_bytes(), picture.stem.capitalize()))
    provenance = frame.groupby(sources, dropna=False, sort=False).size().rename("rows").reset_index()
    return [*blocks, page.Fold("Provenance", [page.Table(provenance)])]


def _totals(frame: pd.DataFrame) -> list[page.Table]:
    return [
        page.Table(
            tables.main(frame, by=["label", "alpha"], across=["alpha"], accuracy="best_accuracy"),
            "Test accuracy of the round that is best on validation samples, points, mean ± deviation over seeds",
        ),
        page.Table(
            summary(frame),
            "Bytes of one client over the whole run, the head's round included, means over seeds. Front: no other is "
            "as accurate for fewer bytes at the same alpha",
        ),
    ]


def main() -> None:
    """Write the page and, where a browser is installed, its picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--benchmarks", type=Path, default=Path("results/benchmarks"), help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("docs/report.html"), help="default: %(default)s")
    arguments = parser.parse_args()
    output: Path = arguments.output
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(build(arguments.benchmarks), encoding="utf-8")
    print(f"page      {output}")
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        print("no picture: Chromium is not installed")
        return
    picture = output.with_suffix(".png")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1400,2200"]
    command = [browser, *options, f"--screenshot={picture.resolve()}", output.resolve().as_uri()]
    subprocess.run(command, check=True, capture_output=True)
    print(f"picture   {picture}")


if __name__ == "__main__":
    main()
