"""Figures that compare groups of runs: means over seeds, with their spread, a panel a problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from results import tables
from results.figures.style import bytes_axis, legend, panels, problems, styles, wide
from results.frames import Results
from results.groups import finished, with_keys

_BYTES = {"uplink": "uplink_bytes", "downlink": "downlink_bytes", "both": "total_bytes"}
_WHAT = {"uplink": "uplink", "downlink": "downlink", "both": "uplink and downlink"}


def accuracy_against_bytes(
    runs: pd.DataFrame,
    *,
    direction: tables.Direction = "uplink",
    by: Sequence[str] | None = None,
    accuracy: str = "final_accuracy",
) -> Figure:
    """Accuracy against all bytes that a run sent, a point a group; bars are the standard deviation over seeds.

    Args:
        runs: rows of the runs table; those that are not finished are left out.
        direction: the bytes that count.
        by: group keys, columns or keys of the configuration; what varies when None.
        accuracy: the column of accuracies.
    """
    table = tables.groups(runs, by=by, accuracy=accuracy)
    column = _BYTES[direction]
    titles, names = problems(table, table.attrs["keys"])
    figure, grid = panels(list(titles.unique()))
    looks = styles(table, names)
    for axes, title in zip(grid, titles.unique(), strict=False):
        for index in table.index[titles == title]:
            row, look = table.loc[index], looks[names[index]]
            spread = None if pd.isna(row["accuracy_std"]) else row["accuracy_std"]
            axes.errorbar(
                row[column],
                row["accuracy"],
                spread,
                fmt=look.marker,
                color=look.color,
                fillstyle=look.fillstyle,
                capsize=2,
                label=names[index],
            )
        axes.set_xlabel(f"{_WHAT[direction]} of a run")
        bytes_axis(axes)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _name_left(grid, "test accuracy")
    legend(figure, grid)
    return figure


def over_rounds(
    results: Results,
    *,
    y: Literal["accuracy", "uplink_bpp"] = "accuracy",
    x: Literal["round", "uplink", "downlink", "both", "simulated"] = "round",
    by: Sequence[str] | None = None,
) -> Figure:
    """A measure over rounds, bytes or simulated time, a line a group; bands are the standard deviation over seeds.

    The head's round is the start of an accuracy, and left out of the bpp: it sends a head, not a mask.

    Args:
        results: tables with runs and rounds; runs that are not finished are left out.
        y: column of the rounds table.
        x: ``round``, ``simulated`` for the simulated clock, or the direction of the bytes, cumulative over clients and
            rounds.
        by: group keys, columns or keys of the configuration; what varies when None.
    """
    runs, keys = with_keys(finished(results.runs), by)
    titles, names = problems(runs, keys)
    rounds = results.rounds.assign(x=results.rounds["round"])
    if x == "simulated":
        rounds["x"] = rounds["simulated_clock"]
    elif x != "round":
        rounds["x"] = tables.cumulative_bytes(rounds, x)
    places = pd.DataFrame({"run_id": runs["run_id"], "title": titles, "name": names})
    rounds = rounds[(rounds["round"] > 0) | (y == "accuracy")].merge(places, on="run_id").dropna(subset=["x", y])
    points = rounds.groupby(["title", "name", "round"]).agg(x=("x", "mean"), y=(y, "mean"), std=(y, "std"))
    figure, grid = panels(list(titles.unique()))
    looks = styles(runs, names)
    for axes, title in zip(grid, titles.unique(), strict=False):
        for name in names[titles == title].unique():
            if (title, name) not in points.index:  # its rounds were not read, or none was evaluated
                continue
            look, line = looks[name], points.loc[(title, name)]
            every = max(1, len(line) // 10)
            axes.plot(line["x"], line["y"], **look._asdict(), markevery=every, markersize=4.5, label=name)
            band = line.dropna(subset=["std"])
            axes.fill_between(
                band["x"], band["y"] - band["std"], band["y"] + band["std"], color=look.color, alpha=0.15, linewidth=0
            )
        if x == "round":
            axes.set_xlabel("round")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        elif x == "simulated":
            axes.set_xlabel("simulated time, s")
            axes.set_xscale("symlog" if wide(axes.dataLim.minposx, axes.dataLim.xmax) else "linear")
        else:
            axes.set_xlabel(f"{_WHAT[x]} so far")
            bytes_axis(axes)
        if y == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        elif wide(axes.dataLim.minposy, axes.dataLim.ymax):
            axes.set_yscale("log")
        else:
            axes.set_ylim(0, 1.1 * axes.dataLim.ymax)
    _name_left(grid, "test accuracy" if y == "accuracy" else "uplink, bits per masked parameter")
    legend(figure, grid)
    return figure


def _name_left(grid: Sequence[Axes], name: str) -> None:
    for axes in grid[::3]:
        axes.set_ylabel(name)
