"""Tables as papers print them, as dataframes: what a method reaches, at how many bytes, over seeds.

Only finished runs count; ``frame.attrs["unfinished"]`` says how many others were left out. Runs that differ in nothing
but their seed are a group; :func:`results.groups.with_keys` says how groups are found.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from results import formats
from results.fairness import class_accuracies, client_accuracies
from results.frames import Results
from results.groups import PROBLEM, finished, labels, with_keys
from results.targets import Direction, bytes_to_target, cumulative_bytes, seconds_to_target

__all__ = [
    "Direction",
    "accuracy_at_bytes",
    "bytes_to_target",
    "class_accuracies",
    "client_accuracies",
    "cumulative_bytes",
    "groups",
    "main",
    "pareto_front",
    "save",
    "seconds_to_target",
    "to_latex",
    "to_markdown",
]

_MEASURES = ("uplink_bpp", "uplink_bytes", "downlink_bytes", "total_bytes", "wall_seconds")


def groups(runs: pd.DataFrame, *, by: Sequence[str] | None = None, accuracy: str = "final_accuracy") -> pd.DataFrame:
    """One row a group of runs: its keys, how many runs it has, mean and spread of the accuracy, mean costs.

    Args:
        runs: rows of the runs table.
        by: group keys, columns or keys of the configuration; what varies when None.
        accuracy: the column of accuracies.

    Returns:
        The keys, ``runs``, ``accuracy`` and ``accuracy_std`` (fractions; the standard deviation with n - 1, missing for
        a single run), and the means of ``uplink_bpp``, ``uplink_bytes``, ``downlink_bytes``, ``total_bytes`` (both
        directions) and ``wall_seconds``; groups in order of appearance.

    Raises:
        ValueError: ``by`` or ``accuracy`` names what does not exist.
    """
    _check_column("accuracy", accuracy, runs)
    keyed, keys = with_keys(finished(runs), by)
    if {"uplink_bytes", "downlink_bytes"} <= set(keyed):
        keyed["total_bytes"] = keyed["uplink_bytes"] + keyed["downlink_bytes"]
    # A group without keys is the group of all.
    grouped = keyed.groupby(keys or np.zeros(len(keyed)), sort=False, dropna=False)
    measures = {"runs": (accuracy, "size"), "accuracy": (accuracy, "mean"), "accuracy_std": (accuracy, "std")}
    measures |= {name: (name, "mean") for name in _MEASURES if name in keyed}
    table = grouped.agg(**measures).reset_index(drop=not keys)
    table.attrs = {"unfinished": keyed.attrs["unfinished"], "keys": keys}
    return table


def main(
    runs: pd.DataFrame,
    *,
    by: Sequence[str] | None = None,
    across: Sequence[str] | None = None,
    accuracy: str = "final_accuracy",
) -> pd.DataFrame:
    """The main table of a paper: methods by datasets, ``mean ± standard deviation`` of the accuracy in points.

    Args:
        runs: rows of the runs table.
        by: group keys, columns or keys of the configuration; what varies when None.
        across: the keys that become columns; those of dataset, backbone, partition and alpha that vary when None, else
            the dataset.
        accuracy: the column of accuracies.

    Returns:
        One row a method (and whatever sets runs of a method apart), a column of text a dataset, and ``uplink bpp``, the
        mean over the columns.

    Raises:
        ValueError: a key or column does not exist.
    """
    table = groups(runs, by=by, accuracy=accuracy)
    keys: list[str] = table.attrs["keys"]
    if across is None:
        across = [name for name in PROBLEM if name in keys]
    unknown = [name for name in across if name not in keys]
    if unknown:
        raise ValueError(f"across: found {unknown[0]!r}, allowed: {', '.join(keys)}")
    row_keys = [name for name in keys if name not in across]
    table["row"], table["column"] = labels(table, row_keys), "accuracy"
    if across:
        table["column"] = table[list(across)].apply(lambda row: ", ".join(map(formats.setting, across, row)), axis=1)
    elif "dataset" in runs and len(table):
        table["column"] = finished(runs)["dataset"].iloc[0]
    table["cell"] = table.apply(lambda row: formats.spread(row["accuracy"], row["accuracy_std"]), axis=1)
    shown = table.pivot(index="row", columns="column", values="cell")
    shown = shown.loc[table["row"].unique(), table["column"].unique()].fillna("")
    if "uplink_bpp" in table:
        shown["uplink bpp"] = table.groupby("row")["uplink_bpp"].mean()
    shown = shown.rename_axis(columns=None).reset_index(names=row_keys[0] if row_keys else "runs")
    shown.attrs = {"unfinished": table.attrs["unfinished"]}
    return shown


def pareto_front(table: pd.DataFrame, *, accuracy: str = "accuracy", cost: str = "total_bytes") -> pd.DataFrame:
    """The rows that no other row beats: none is as accurate at a lower cost, or more accurate at the same.

    Args:
        table: such as that of :func:`groups`.
        accuracy: the column to be high.
        cost: the column to be low.

    Returns:
        The rows, with their index, in order of cost; rows with a missing value are left out.

    Raises:
        ValueError: a column does not exist.
    """
    _check_column("accuracy", accuracy, table)
    _check_column("cost", cost, table)
    best = table.groupby(cost)[accuracy].max().dropna()
    front = best[best > best.cummax().shift(fill_value=-np.inf)]
    return table[table[accuracy] == table[cost].map(front)].sort_values(cost, kind="stable")


def accuracy_at_bytes(
    results: Results,
    budgets: Sequence[float] = (100e3, 1e6, 10e6),
    *,
    direction: Direction = "both",
    by: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Accuracy of each run when its clients had sent and received so many bytes, the head's round included.

    The round that counts is the one of highest validation accuracy, then lowest loss, among those that a budget pays
    for, or the last of them without validation samples.

    Args:
        results: tables with runs and rounds.
        budgets: bytes a registered client, a mean over all of them.
        direction: the bytes that count.
        by: group keys to show, columns or keys of the configuration; what varies when None.

    Returns:
        One row a run: the keys, ``seed``, ``run_id``, and a column of test accuracies for each budget, such as
        ``accuracy at 0.1 MB``, missing where not even the head's round is paid for.

    Raises:
        ValueError: a key does not exist, or ``direction`` is not one of the three.
    """
    runs, keys = with_keys(finished(results.runs), by)
    rounds = results.rounds
    spent = cumulative_bytes(rounds, direction) / rounds["run_id"].map(runs.set_index("run_id")["clients"])
    # Without validation samples, later rounds count more.
    rank = rounds["validation_accuracy"].fillna(rounds["round"])
    rounds = rounds.assign(rank=rank, spent=spent).dropna(subset=["accuracy"])
    order = {"rank": True, "validation_loss": False, "round": False}
    table = runs[[*keys, *(name for name in ("seed", "run_id") if name not in keys)]].copy()
    for budget in budgets:
        paid = rounds[rounds["spent"] <= budget].sort_values(list(order), ascending=list(order.values()))
        chosen = paid.drop_duplicates("run_id", keep="last").set_index("run_id")["accuracy"]
        table[f"accuracy at {budget / 1e6:g} MB"] = table["run_id"].map(chosen)
    table.attrs = {"unfinished": runs.attrs["unfinished"]}
    return table


def to_markdown(table: pd.DataFrame) -> str:
    """A Markdown table, its numbers rounded by what they are; a line below it counts runs that were left out."""
    shown = formats.text(table).map(lambda value: value.replace("|", "\\|").replace("\n", " "))
    marks = ["---:" if formats.is_number(table[name]) else "---" for name in table]
    lines = [list(map(str, shown.columns)), marks, *shown.to_numpy().tolist()]
    note = formats.left_out(table)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n" + (f"\n{note}\n" if note else "")


def to_latex(table: pd.DataFrame) -> str:
    """A LaTeX tabular for the package booktabs, its numbers rounded by what they are."""
    alignment = "".join("r" if formats.is_number(table[name]) else "l" for name in table)
    text = formats.text(table).to_latex(index=False, escape=True, column_format=alignment)
    note = formats.left_out(table)
    return text.replace("±", r"$\pm$") + (f"% {note}\n" if note else "")


def save(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a table by its suffix, ``.md``, ``.tex`` or ``.csv`` (with unrounded numbers), and return its path.

    Raises:
        ValueError: it has another suffix.
    """
    path = Path(path)
    writers = {".md": to_markdown, ".tex": to_latex, ".csv": lambda frame: frame.to_csv(index=False)}
    if path.suffix not in writers:
        raise ValueError(f"path: found the suffix {path.suffix!r}, allowed: {', '.join(writers)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(writers[path.suffix](table))
    return path


def _check_column(field: str, name: str, frame: pd.DataFrame) -> None:
    if name not in frame:
        raise ValueError(f"{field}: found {name!r}, allowed: {', '.join(map(str, frame.columns))}")
