"""Groups of runs: the keys that set them apart in tables and figures, seeds aside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import pandas as pd

from results import formats

#: Keys that say what the problem is; figures give each its panel, tables its column.
PROBLEM = ("dataset", "backbone", "partition", "alpha", "data.path")

_COLUMNS = ("method", "dataset", "backbone", "partition", "alpha", "weights", "clients", "participation", "rounds")
# Keys that are columns already, or that say where and how a run was carried out rather than what it is.
_COLUMN_KEYS = {"method.name", "model.name", "data.name", "partition.name", "partition.alpha", "partition.clients"}
_FORMER_KEYS = {"data.partition", "data.alpha", "data.clients"}  # names of these before version 0.2
_NOT_SETTINGS = _COLUMN_KEYS | _FORMER_KEYS | {"seed", "rounds", "participation", "output", "data.download"}


def finished(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that are finished, as a copy; its ``attrs["unfinished"]`` counts the others."""
    chosen = runs[runs["status"] == "finished"].copy() if "status" in runs else runs.copy()
    chosen.attrs["unfinished"] = len(runs) - len(chosen)
    return chosen


def settings(runs: pd.DataFrame) -> pd.DataFrame:
    """The configurations as columns with dotted names, one row a run with the index of ``runs``.

    Raises:
        ValueError: a configuration is not a JSON object.
    """
    rows = [_parsed(config) for config in runs.get("config", pd.Series("{}", runs.index)).fillna("{}")]
    return pd.DataFrame(rows, index=runs.index)


def with_keys(runs: pd.DataFrame, by: Sequence[str] | None = None) -> tuple[pd.DataFrame, list[str]]:
    """``runs`` with a column for each group key, and the keys.

    Args:
        runs: rows of the runs table.
        by: the keys: columns of ``runs`` or dotted keys of the configuration. By default ``method`` and all that
            varies: columns that describe the problem, then all keys of the configuration that vary between runs with
            the same of these, so that runs of two learning rates are not taken for two seeds.

    Raises:
        ValueError: a key is neither a column nor in any configuration.
    """
    found = settings(runs)
    if by is None:
        keys = [name for name in _COLUMNS if name in runs and (name == "method" or _varies(runs[name]))]
        alike = [runs[key] for key in keys]
        keys += [
            name
            for name in map(str, found)
            if name not in _NOT_SETTINGS and not name.startswith("cluster.") and _varies_within(alike, found[name])
        ]
    else:
        keys = list(by)
        for name in keys:
            if name not in runs and name not in found:
                allowed = ", ".join([*runs.columns, *found.columns])
                raise ValueError(f"by: found {name!r}, allowed: {allowed}")
    added = found[[name for name in keys if name not in runs]]
    result = pd.concat([runs, added], axis=1)
    result.attrs = dict(runs.attrs)
    return result, keys


def labels(frame: pd.DataFrame, keys: Sequence[str]) -> pd.Series[str]:
    """A name for the group of each row: its first key, then the others that set groups of the same first key apart.

    Args:
        frame: rows with the columns ``keys``, the first being ``method`` as a rule.
        keys: the group keys.
    """
    if not keys:
        return pd.Series("all", frame.index, dtype=str)
    first, *rest = keys
    result = frame[first].map(_text)
    for key in rest:
        apart = frame.groupby(first, dropna=False)[key].transform(lambda values: _varies(values)).astype(bool)
        shown = frame[key].map(lambda value, key=key: f", {formats.setting(key, value)}")
        result = result + shown.where(apart & frame[key].notna(), "")
    return result.astype(str)


def _varies(values: pd.Series[Any]) -> bool:
    return values.map(_text).nunique() > 1


def _varies_within(keys: Sequence[pd.Series[Any]], values: pd.Series[Any]) -> bool:
    """Whether the values differ between rows that are alike in all keys."""
    if not _varies(values):
        return False
    texts = values.map(_text)
    return bool((texts.groupby([key.map(_text) for key in keys]).nunique() > 1).any())


def _text(value: Any) -> str:
    if value is None or value != value:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


@lru_cache(maxsize=10_000)  # several tables and figures of the same runs ask for it
def _parsed(config: str) -> dict[str, Any]:
    try:
        return _flat(json.loads(config))
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"config: found {config[:80]!r}, allowed: a JSON object ({error})") from error


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            # Lists have no hash, which groups need.
            flat[prefix + name] = json.dumps(value) if isinstance(value, list) else value
    return flat
