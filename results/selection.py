"""Some of many runs: by conditions on their columns and on the keys of their configurations."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from results.groups import settings, with_keys

_CONDITION = re.compile(r"([\w.]+)\s*(!=|<=|>=|=|<|>)\s*(.*)", re.DOTALL)
_COMPARE: dict[str, Any] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
#: Columns of an overview, before those of what varies between runs and after them.
_FIRST, _LAST = ["status"], ["final_accuracy", "uplink_bpp", "uplink_bytes", "downlink_bytes", "started_at"]


def select(runs: pd.DataFrame, conditions: Iterable[str]) -> pd.DataFrame:
    """The runs that meet all conditions.

    Args:
        runs: rows of the runs table.
        conditions: ``"NAME=VALUE"``, where values with commas between them are alternatives, or with ``!=``, ``<``,
            ``<=``, ``>``, ``>=``; names are columns or dotted keys of the configuration. A missing value meets none
            but ``!=`` and ``NAME=null``.

    Raises:
        ValueError: a condition is not of that form, names what no run has, or compares text.
    """
    found = settings(runs)
    kept = pd.Series(True, runs.index)
    for condition in conditions:
        match = _CONDITION.fullmatch(condition)
        if match is None:
            raise ValueError(f"condition: found {condition!r}, allowed: NAME=VALUE, or with !=, <, <=, >, >=")
        name, sign, value = match.groups()
        kept &= _holds(_column(runs, found, name), name, sign, value)
    return runs[kept]


def overview(runs: pd.DataFrame, columns: Sequence[str] | None = None, sort: str = "started_at") -> pd.DataFrame:
    """A row a run for people to read, with ``run_id`` first.

    Args:
        runs: rows of the runs table.
        columns: columns or dotted keys of the configuration; status, what varies between the runs, and what came of
            them when None.
        sort: the column or key to order by, ``"-NAME"`` for falling values; missing ones are last.

    Raises:
        ValueError: a name that no run has.
    """
    if columns is None:
        keyed, keys = with_keys(runs)
        columns = [*_FIRST, *keys, *(["seed"] if runs["seed"].nunique() > 1 else []), *_LAST]
    else:
        found = settings(runs)
        keyed = pd.DataFrame({name: _column(runs, found, name) for name in ["run_id", *columns]})
    columns = [name for name in dict.fromkeys(columns) if name != "run_id"]
    found = settings(runs)
    order = _column(runs, found, sort.removeprefix("-")).sort_values(ascending=not sort.startswith("-"), kind="stable")
    return keyed.loc[order.index, ["run_id", *columns]]


def differences(runs: pd.DataFrame) -> pd.DataFrame:
    """The columns that say what a run is, and the keys of its configuration, that differ between runs; and ``run_id``.

    Args:
        runs: rows of at least two runs.
    """
    found = settings(runs).drop(columns=["output", "data.download"], errors="ignore")
    texts = found.astype(object).where(found.notna(), None)
    varying = [name for name in texts if texts[name].map(repr).nunique() > 1]
    return pd.concat([runs[["run_id"]], texts[varying]], axis=1)


def _column(runs: pd.DataFrame, found: pd.DataFrame, name: str) -> pd.Series[Any]:
    for frame in (runs, found):
        if name in frame:
            return frame[name]
    near = difflib.get_close_matches(name, [*map(str, runs.columns), *map(str, found.columns)], n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    columns = ", ".join(map(str, runs.columns))
    raise ValueError(f"{name}: found no such name{hint} (allowed: {columns}, or a key such as train.lr)")


def _holds(column: pd.Series[Any], name: str, sign: str, value: str) -> pd.Series[bool]:
    if sign in _COMPARE:
        bound = pd.to_numeric(pd.Series([value]), errors="coerce")[0]
        numbers = pd.to_numeric(column, errors="coerce")
        if bound != bound or (numbers.isna() & column.notna()).any():
            raise ValueError(f"{name}: found {sign}{value}, allowed: = and !=, or numbers")
        return _COMPARE[sign](numbers, bound).fillna(False).astype(bool)
    same = column.map(lambda cell: any(_same(cell, text) for text in value.split(","))).astype(bool)
    return same if sign == "=" else ~same


def _same(cell: Any, text: str) -> bool:
    if cell is None or cell != cell:
        return text == "null"
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return str(cell).lower() == text.lower() if isinstance(cell, bool) else str(cell) == text
    try:
        return float(text) == cell
    except ValueError:
        return False
