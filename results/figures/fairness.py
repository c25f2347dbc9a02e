"""Figures of how clients fare."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from results import fairness
from results.figures.style import legend, panels, problems, styles
from results.frames import Results
from results.groups import finished, with_keys

_MODELS = {"client_accuracy": "the global model", "personal_accuracy": "personalised models"}


def client_accuracies(results: Results, *, by: Sequence[str] | None = None) -> Figure:
    """The share of clients that have at most some accuracy on their held-out samples, a line a group.

    A panel for each problem and model: the global one that a client received, and its own after training. A client
    counts once a run, by its latest evaluation; the runs of a group are drawn as one.

    Args:
        results: tables with runs and clients; runs that are not finished are left out.
        by: group keys, columns or keys of the configuration; what varies when None.
    """
    runs, keys = with_keys(finished(results.runs), by)
    titles, names = problems(runs, keys)
    places = pd.DataFrame({"run_id": runs["run_id"], "title": titles, "name": names})
    looks = styles(runs, names)
    found = {
        (title, measure): rows
        for measure in fairness.known(results)
        for title, rows in fairness.latest(results, measure).merge(places, on="run_id").groupby("title", sort=False)
    }
    figure, grid = panels([f"{title}: {_MODELS[measure]}".removeprefix(": ") for title, measure in found])
    for axes, ((_, measure), rows) in zip(grid, found.items(), strict=False):
        for name in [name for name in looks if name in set(rows["name"])]:
            values, look = rows.loc[rows["name"] == name, measure], looks[name]
            axes.ecdf(values, color=look.color, linestyle=look.linestyle, linewidth=1.6, label=name)
        axes.set_xlabel("accuracy on held-out samples")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    lowest = min((axes.get_xlim()[0] for axes in grid), default=0.0)
    for axes in grid:
        axes.set_xlim(left=lowest)
    for axes in grid[::3]:
        axes.set_ylabel("clients with at most this")
    legend(figure, grid)
    return figure
