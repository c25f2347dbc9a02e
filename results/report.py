"""A report of runs: tables, figures, what failed, configurations and where the results come from, as one HTML page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from results import fairness, figures, page, tables
from results.frames import Results
from results.groups import PROBLEM, finished, settings
from results.report_searches import search_blocks
from results.searches import searches

_SHOWN_ROUNDS = 500
# Not in the table of runs: long, and in sections of their own.
_APART = ["config", "trial", "search", "command", "machine", "version", "git_commit", "error", "warnings"]


def write(results: Results, folder: str | Path, *, title: str = "fedsim report") -> Path:
    """Write ``index.html`` and its pictures as PNG files, and return the path of the page.

    Args:
        results: all tables of at least one run.
        folder: local folder, created when missing; its files of the same names are replaced.
        title: heading of the page.

    Raises:
        ValueError: there is no run.
    """
    if results.runs.empty:
        raise ValueError("runs: found none, allowed: at least one")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = draw(results)
    for name, picture in pictures.items():
        (folder / f"{name}.png").write_bytes(picture.png)
    html = folder / "index.html"
    html.write_text(page.render(title, sections(results, pictures), overview(results.runs)), encoding="utf-8")
    return html


def overview(runs: pd.DataFrame) -> str:
    """One line: how many runs there are, and how they ended."""
    counts = ", ".join(f"{count} {status}" for status, count in runs["status"].value_counts().items())
    return f"{len(runs)} run{'s' if len(runs) > 1 else ''} ({counts})"


def without_trials(results: Results) -> Results:
    """The results without runs that a search only tried, unless there are no others."""
    trials = _is_trial(results.runs)
    if trials.all() or not trials.any():
        return results
    runs = results.runs[~trials]
    names = ("rounds", "clients", "classes")
    return replace(
        results, runs=runs, **{n: (f := getattr(results, n))[f["run_id"].isin(runs["run_id"])] for n in names}
    )


def _is_trial(runs: pd.DataFrame) -> pd.Series[bool]:
    return runs["trial"].notna() if "trial" in runs else pd.Series(False, runs.index)


def draw(results: Results) -> dict[str, page.Picture]:
    """The figures by file name; none when no run is finished."""
    results = without_trials(results)
    if finished(results.runs).empty:
        return {}
    spread = "bands: standard deviation over seeds"
    drawings: dict[str, tuple[Callable[[], Figure], str]] = {
        "accuracy_against_bytes": (
            lambda: figures.accuracy_against_bytes(results.runs),
            "Final accuracy against the bytes that all clients sent; bars: standard deviation over seeds",
        ),
        "accuracy_against_all_bytes": (
            lambda: figures.accuracy_against_bytes(results.runs, direction="both"),
            "Final accuracy against the bytes of both directions; bars: standard deviation over seeds",
        ),
        "accuracy_over_rounds": (lambda: figures.over_rounds(results), f"Accuracy over rounds; {spread}"),
        "accuracy_over_bytes": (
            lambda: figures.over_rounds(results, x="uplink"),
            f"Accuracy over the bytes sent so far; {spread}",
        ),
        "bpp_over_rounds": (
            lambda: figures.over_rounds(results, y="uplink_bpp"),
            f"Uplink bits per masked parameter over rounds, the head's round left out; {spread}",
        ),
        "clients": (
            lambda: figures.client_distributions(results),
            "Uploads and samples of clients: median, middle half, and whiskers at 5 and 95 %",
        ),
    }
    if _timed(results):
        drawings["accuracy_over_simulated_time"] = (
            lambda: figures.over_rounds(results, x="simulated"),
            f"Accuracy over simulated time; {spread}",
        )
    if fairness.known(results):
        drawings["client_accuracies"] = (
            lambda: figures.client_accuracies(results),
            "Clients by accuracy on the samples that they hold out: the global model as received, and their own",
        )
    if len(tables.groups(results.runs)) == 1:  # a single point shows nothing
        del drawings["accuracy_against_bytes"], drawings["accuracy_against_all_bytes"]
    return {name: page.drawn(function(), alt) for name, (function, alt) in drawings.items()}


def _timed(results: Results) -> bool:
    """Whether a run has simulated time."""
    return "simulated_clock" in results.rounds and bool(results.rounds["simulated_clock"].notna().any())


def sections(results: Results, pictures: dict[str, page.Picture]) -> list[page.Section]:
    """The parts of the page.

    Args:
        results: all tables of at least one run.
        pictures: see :func:`draw`.
    """
    runs = results.runs
    compared = without_trials(results)
    found = [page.Section("Accuracy and bytes", _comparison(compared))] if len(finished(compared.runs)) else []
    if len(finished(compared.runs)) and len(compared.classes):
        by_class = page.Table(tables.class_accuracies(compared), "Test accuracy of the final models, means over seeds")
        found.append(page.Section("Classes", [page.Fold("Accuracy by class", [by_class])]))
    if pictures:
        found.append(page.Section("Figures", list(pictures.values())))
    shown = runs.drop(columns=[name for name in _APART if name in runs]).dropna(axis="columns", how="all")
    blocks: list[page.Table | page.Fold] = [page.Table(shown)]
    if 0 < len(results.rounds) <= _SHOWN_ROUNDS:
        blocks.append(page.Fold("Rounds", [page.Table(results.rounds.dropna(axis="columns", how="all"))]))
    found.append(page.Section("Runs", blocks))
    if found_searches := searches(runs):
        found.append(page.Section("Searches", search_blocks(found_searches)))
    going_on = runs["status"] == "running"
    failed = runs.loc[~going_on & (runs["status"] != "finished"), ["run_id", "status", "error"]]
    if len(failed):
        found.append(page.Section("Not finished", [page.Table(failed, "What failed, and why")]))
    if going_on.any():
        running = runs.loc[going_on, ["run_id"]].assign(last_written=runs["run_id"].map(results.last_written))
        found.append(
            page.Section("Going on", [page.Table(running, "Where nothing was written for long, the process is dead")])
        )
    if results.damaged:
        damaged = pd.DataFrame({"what is wrong": results.damaged})
        found.append(page.Section("Damaged", [page.Table(damaged, "Runs that are left out everywhere on this page")]))
    warned = runs.loc[runs["warnings"].notna(), ["run_id", "warnings"]]
    if len(warned):
        found.append(page.Section("Warnings", [page.Table(warned)]))
    found.append(page.Section("Configurations", _configurations(runs)))
    sources = ["command", "version", "git_commit", "machine"]
    provenance = runs.groupby(sources, dropna=False, sort=False).size().rename("runs").reset_index()
    found.append(page.Section("Provenance", [page.Table(provenance)]))
    return found


def _comparison(results: Results) -> list[page.Table]:
    groups = tables.groups(results.runs)
    keys = groups.attrs["keys"]
    problem = [name for name in PROBLEM if name in keys]
    parts = [part for _, part in groups.groupby(problem, dropna=False)] if problem else [groups]
    if any(len(part) > 1 for part in parts):
        for name, cost in (("front, uplink", "uplink_bytes"), ("front, both", "total_bytes")):
            front = [index for part in parts for index in tables.pareto_front(part, cost=cost).index]
            groups[name] = ["yes" if index in front else "" for index in groups.index]
    target = tables.bytes_to_target(results)
    both = tables.bytes_to_target(results, direction="both")
    target = target.rename(columns={"target": "accuracy", "bytes": "uplink_bytes"}).assign(total_bytes=both["bytes"])
    if _timed(results):
        target["simulated_seconds"] = tables.seconds_to_target(results)["seconds"]
    clients = page.Table(
        tables.client_accuracies(results),
        "Accuracy on the samples that clients hold out, each by its latest evaluation: client accuracy is that of the "
        "global model as received, personal accuracy that of the client's own; means over the runs of a group",
    )
    return [
        page.Table(tables.main(results.runs), "Final accuracy in points, mean ± standard deviation over seeds"),
        page.Table(
            groups,
            "Means over the runs of a group; accuracy is that of the last round, bytes are those of a run. "
            "Front: no other is as accurate for fewer bytes",
        ),
        page.Table(
            target,
            "What was spent until a run was first within 1 % of its best round's accuracy, head's round included",
        ),
        page.Table(
            tables.accuracy_at_bytes(results),
            "Test accuracy when a client had sent and received so much, head's round included",
        ),
        *([clients] if fairness.known(results) else []),
    ]


def _configurations(runs: pd.DataFrame) -> list[page.Text | page.Fold]:
    """Configurations: what all runs share, once, and for each run the rest."""
    found = settings(runs)
    texts = found.map(lambda value: "null" if value is None or value != value else str(value))
    shared = [name for name in found if texts[name].nunique() == 1]
    rest = [name for name in found if name not in shared]
    common = pd.DataFrame({"key": shared, "value": [texts[name].iloc[0] for name in shared]}, dtype=str)
    blocks: list[page.Text | page.Fold] = [page.Fold(f"Shared by all runs ({len(shared)} keys)", [page.Table(common)])]
    if rest:
        table = pd.concat([runs["run_id"], texts[rest].replace("null", "")], axis=1)
        blocks.append(page.Fold(f"What differs ({len(rest)} keys)", [page.Table(table)]))
    return blocks
