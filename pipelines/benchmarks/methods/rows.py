"""Rows of the comparison: which run belongs to which, and under what name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from fedsim.settings import read_yaml

SWEEPS = Path(__file__).parent
_SMALL = {"name": "eden", "rate": 1.0}


@lru_cache(maxsize=1)
def entries() -> list[dict[str, Any]]:
    """The ``method`` groups that the sweep files compare, each once."""
    found: list[dict[str, Any]] = []
    for file in sorted(SWEEPS.glob("*.yaml")):
        found += [entry for entry in read_yaml(file)["space"]["method"]["grid"] if entry not in found]
    return found


def label(config: Mapping[str, Any]) -> str:
    """The name of a run's row, by its configuration: the method, and the keys that the sweep files fix beside it.

    A head of fewer bits than the others start from is named too.

    Raises:
        ValueError: no sweep file has such a method.
    """
    matching = [entry for entry in entries() if _holds(entry, config["method"])]
    if not matching:
        raise ValueError(f"method: found {config['method']!r}, allowed: one of the sweep files")
    entry = max(matching, key=lambda one: len(json.dumps(one)))
    words = [*_words(entry), *(["one round"] if config["rounds"] == 1 else [])]
    if config["head"].get("compressor") == _SMALL:
        words.append("small head")
    return ", ".join([entry["name"], *words])


def with_labels(runs: pd.DataFrame) -> pd.DataFrame:
    """Rows of the runs table with a column ``label``."""
    return runs.assign(label=[label(json.loads(config)) for config in runs["config"]])


def _holds(part: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    return all(
        key in whole and (_holds(value, whole[key]) if isinstance(value, Mapping) else whole[key] == value)
        for key, value in part.items()
    )


def _words(group: Mapping[str, Any]) -> list[str]:
    words = []
    for key, value in group.items():
        if isinstance(value, Mapping):
            name = [str(value["name"])] if "name" in value else []
            words.append(" ".join([*name, *_words(value)]))
        elif key in ("codec", "values", "forward"):
            words.append(str(value))
        elif value is True:
            words.append(key.replace("_", " "))
        elif key not in ("name", "weighting"):
            words.append(f"{key} {value}")
    return words
