"""Fairness: accuracies of clients, each on the samples that it holds out of training, and of classes.

The spread over clients and the mean of the worst tenth are those of Li et al., "Fair Resource Allocation in Federated
Learning" (ICLR 2020).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from results.frames import Results
from results.groups import finished, labels, with_keys

#: Accuracies of the ``clients`` table: of the global model that a client received, and of its own after training.
MEASURES = ("client_accuracy", "personal_accuracy")


def over_clients(accuracies: ArrayLike) -> dict[str, float]:
    """Mean over clients, mean of the worst tenth of them (at least one), and standard deviation (with n)."""
    ordered = np.sort(np.asarray(accuracies, np.float64))
    worst = ordered[: max(1, len(ordered) // 10)]
    return {"mean": float(ordered.mean()), "worst_tenth": float(worst.mean()), "spread": float(ordered.std())}


def known(results: Results) -> list[str]:
    """The measures that a client has, of :data:`MEASURES`."""
    return [name for name in MEASURES if name in results.clients and results.clients[name].notna().any()]


def latest(results: Results, measure: str) -> pd.DataFrame:
    """The last row of each client of each run that has a measure, one of :func:`known`."""
    rows = results.clients.dropna(subset=[measure]).sort_values("round", kind="stable")
    return rows.drop_duplicates(["run_id", "client"], keep="last")


def client_accuracies(results: Results, *, by: Sequence[str] | None = None) -> pd.DataFrame:
    """One row a group of runs: means over its runs of how their clients fare, by each client's latest evaluation.

    Args:
        results: tables with runs and clients; runs that are not finished are left out.
        by: group keys, columns or keys of the configuration; what varies when None.

    Returns:
        The keys, ``evaluated_clients`` (a run), and for each of :data:`MEASURES` that is known its ``_mean``,
        ``_worst_tenth`` and ``_spread``, see :func:`over_clients`; groups without any are left out.

    Raises:
        ValueError: a key does not exist.
    """
    runs, keys = with_keys(finished(results.runs), by)
    of_runs: dict[str, dict[str, float]] = {}
    for measure in known(results):
        for run_id, rows in latest(results, measure).groupby("run_id"):
            columns = {f"{measure}_{name}": value for name, value in over_clients(rows[measure]).items()}
            of_runs.setdefault(str(run_id), {"evaluated_clients": len(rows)}).update(columns)
    found = pd.DataFrame.from_dict(of_runs, orient="index")
    joined = runs[["run_id", *(key for key in keys if key != "run_id")]].join(found, on="run_id", how="inner")
    grouped = joined.groupby(keys or np.zeros(len(joined)), sort=False, dropna=False)
    table = grouped[list(found)].mean().reset_index(drop=not keys)
    table.attrs = {"unfinished": runs.attrs["unfinished"], "keys": keys}
    return table


def class_accuracies(results: Results, *, by: Sequence[str] | None = None) -> pd.DataFrame:
    """One row a class: test accuracy of the final models, a column a group of runs, means over their runs.

    Args:
        results: tables with runs and classes; runs that are not finished are left out.
        by: group keys, columns or keys of the configuration; what varies when None.

    Returns:
        ``dataset``, ``class``, ``class_name``, ``samples`` and columns such as ``accuracy, deltamask``.

    Raises:
        ValueError: a key does not exist.
    """
    runs, keys = with_keys(finished(results.runs), by)
    names = pd.DataFrame(
        {"run_id": runs["run_id"], "dataset": runs["dataset"], "name": "accuracy, " + labels(runs, keys)}
    )
    rows = results.classes.merge(names, on="run_id")
    index = ["dataset", "class", "class_name", "samples"]
    table = rows.pivot_table("accuracy", index, "name", sort=False).sort_index(level=["dataset", "class"])
    table = table[[name for name in names["name"].unique() if name in table]].rename_axis(columns=None).reset_index()
    table.attrs = {"unfinished": runs.attrs["unfinished"], "keys": keys}
    return table
