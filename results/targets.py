"""The cost of an accuracy: bytes, or simulated seconds, until a run first reached it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd

from results.frames import Results
from results.groups import finished, with_keys

Direction = Literal["uplink", "downlink", "both"]


def bytes_to_target(
    results: Results,
    target: float | None = None,
    *,
    within: float = 0.01,
    direction: Direction = "uplink",
    by: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Bytes that each run had sent when it first reached an accuracy, the head's round included.

    Args:
        results: tables with runs and rounds.
        target: the accuracy, a fraction; when None, what is ``within`` this share of that of the run's own best
            round, which is chosen on validation samples (the last round without any): ``(1 - within) * best``.
        within: see ``target``.
        direction: the bytes that count.
        by: group keys to show, columns or keys of the configuration; what varies when None.

    Returns:
        One row a run: the keys, ``seed``, ``run_id``, ``target``, ``round`` and ``bytes``, cumulative over clients and
        rounds; the last two are missing where the target was not reached.

    Raises:
        ValueError: a key does not exist, ``within`` is no share, or ``direction`` is not one of the three.
    """
    cost: pd.Series[Any] = cumulative_bytes(results.rounds, direction).astype("Int64")
    return _first_reached(results, target, within, by, cost.rename("bytes"))


def seconds_to_target(
    results: Results, target: float | None = None, *, within: float = 0.01, by: Sequence[str] | None = None
) -> pd.DataFrame:
    """Simulated seconds from the start of each run until it first reached an accuracy, the head's round included.

    Arguments and errors are those of :func:`bytes_to_target`.

    Returns:
        The same with ``seconds`` in place of ``bytes``; missing too for runs without a simulated world.
    """
    clock = results.rounds["simulated_clock"]
    return _first_reached(results, target, within, by, clock.rename("seconds"))


def _first_reached(
    results: Results, target: float | None, within: float, by: Sequence[str] | None, cost: pd.Series[Any]
) -> pd.DataFrame:
    if not 0 <= within < 1:
        raise ValueError(f"within: found {within}, allowed: 0 <= within < 1")
    runs, keys = with_keys(finished(results.runs), by)
    rounds = results.rounds.assign(**{str(cost.name): cost})
    runs["target"] = runs["best_accuracy"] * (1 - within) if target is None else target
    reached = rounds[rounds["accuracy"] >= rounds["run_id"].map(runs.set_index("run_id")["target"])]
    first = reached.sort_values("round", kind="stable").drop_duplicates("run_id")[["run_id", "round", str(cost.name)]]
    shown = [*keys, *(name for name in ("seed", "run_id") if name not in keys), "target"]
    table = runs[shown].merge(first.astype({"round": "Int64"}), on="run_id", how="left")
    table.attrs = {"unfinished": runs.attrs["unfinished"]}
    return table


def cumulative_bytes(rounds: pd.DataFrame, direction: Direction) -> pd.Series[int]:
    """Bytes that a run had sent after each of its rounds, all clients together, int64 with the index of ``rounds``.

    Raises:
        ValueError: ``direction`` is not one of the three.
    """
    parts = {"uplink": ["uplink_bytes"], "downlink": ["downlink_bytes"], "both": ["uplink_bytes", "downlink_bytes"]}
    if direction not in parts:
        raise ValueError(f"direction: found {direction!r}, allowed: {', '.join(parts)}")
    ordered = rounds.sort_values("round", kind="stable")
    return ordered[parts[direction]].sum(axis=1).groupby(ordered["run_id"]).cumsum().reindex(rounds.index)
