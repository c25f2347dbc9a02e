"""Figures of searches: objectives against what was searched, and the front of two objectives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from results.figures.style import COLOURS, panels, wide
from results.searches import Search


def slices(search: Search) -> Figure:
    """The first objective against each searched key, a panel a key, a point a finished trial; the best is marked."""
    [objective, *_] = search.objectives
    trials = search.outcomes[search.complete]
    values = search.values[search.complete]
    figure, grid = panels(list(map(str, values)), height=2.8)
    best = _best(trials[objective], search.objectives[objective])
    for axes, key in zip(grid, map(str, values), strict=False):
        column, numeric = values[key].dropna(), pd.api.types.is_numeric_dtype(values[key].dropna())
        found: Any = column if numeric else column.map(str)
        outcome = trials.loc[column.index, objective]
        axes.plot(found, outcome, "o", color=COLOURS[0], alpha=0.7, markersize=5)
        if best in column.index:
            axes.plot([found[best]], [outcome[best]], "*", color=COLOURS[1], markersize=13)
        if "loguniform" in search.space.get(key, {}) or (numeric and wide(column.min(), column.max())):
            axes.set_xscale("log")
        _scale(axes, "y", objective)
    for axes in grid[::3]:
        axes.set_ylabel(objective.replace("_", " "))
    return figure


def front(search: Search) -> Figure:
    """The first two objectives of the finished trials; those of the front are joined.

    Raises:
        ValueError: the search has one objective.
    """
    if len(search.objectives) < 2:
        raise ValueError(f"objectives: found {', '.join(search.objectives)}, allowed: at least two")
    y, x = list(search.objectives)[:2]
    trials = search.ranked()
    trials = trials[: search.complete.sum()]
    figure, [axes] = panels([""])
    best = trials[trials["front"] == "yes"].sort_values(x)
    axes.plot(trials[x], trials[y], "o", color=COLOURS[0], alpha=0.5, markersize=5, label="trials")
    axes.plot(best[x], best[y], "*-", color=COLOURS[1], markersize=12, label="front")
    if len(trials) and wide(trials[x].min(), trials[x].max()):
        axes.set_xscale("log")
    axes.set(xlabel=x.replace("_", " "), ylabel=y.replace("_", " "))
    _scale(axes, "x", x)
    _scale(axes, "y", y)
    axes.legend(frameon=False, fontsize="small")
    return figure


def _best(outcome: pd.Series[Any], mode: str) -> Any:
    if outcome.empty:
        return None
    return outcome.index[int(np.argmax(outcome) if mode == "max" else np.argmin(outcome))]


def _scale(axes: Axes, which: str, column: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    if "accuracy" in column:
        axis.set_major_formatter(PercentFormatter(1.0))
    elif "bytes" in column:
        axis.set_major_formatter(EngFormatter("B"))
