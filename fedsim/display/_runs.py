"""Tables of stored runs for the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml
from rich.table import Table

from fedsim.display._tables import plain_table, rounds_table, size
from results import formats

_ABOUT = ["status", "method", "dataset", "backbone", "weights", "partition", "clients", "seed", "masked_parameters"]
_OUTCOME = ["linear_probe_accuracy", "final_accuracy", "best_accuracy", "uplink_bpp", "uplink_bytes", "downlink_bytes"]
_ORIGIN = ["version", "git_commit", "machine"]
_MORE = ["started_at", "finished_at", "command", "trial", "warnings"]


def overview_table(frame: Any) -> Table:
    """A table of runs, with numbers as people read them."""
    table = Table(box=None, pad_edge=False)
    for name in frame:
        right = formats.is_number(frame[name])
        table.add_column(str(name), justify="right" if right else "left", overflow="fold", no_wrap=name == "run_id")
    for row in frame.itertuples(index=False):
        table.add_row(*(shown(str(name), value) for name, value in zip(frame, row, strict=True)))
    return table


def differences_table(runs: Any, different: Any) -> Table:
    """Runs as columns: the keys that differ, then what came of them."""
    table = plain_table("", *runs["run_id"])
    outcome = ["status", *_OUTCOME, "wall_seconds", *(name for name in _ORIGIN if runs[name].nunique() > 1)]
    for frame, names in ((different, [name for name in different if name != "run_id"]), (runs, outcome)):
        for name in names:
            table.add_row(name, *(shown(name, value) for value in frame[name]))
    return table


def run_tables(row: Any, rounds: Any) -> Iterator[Table | str]:
    """All that is known of a run, part by part."""
    table = plain_table("run", str(row["run_id"]))
    for name in [*_ABOUT, *_OUTCOME, "wall_seconds", *_MORE, *_ORIGIN]:
        if text := shown(name, row[name]):
            table.add_row(name, text)
    yield table
    yield "\nconfiguration\n" + yaml.safe_dump(json.loads(row["config"]), sort_keys=False).rstrip() + "\n"
    if len(rounds):
        yield rounds_table(rounds)
    if isinstance(row["error"], str):
        yield f"\nerror\n{row['error']}"


def shown(name: str, value: Any) -> str:
    """A value of a column or a dotted key as text; nothing where there is none."""
    if value is None:
        return ""
    if name.endswith("_bytes") and value == value:
        return size(float(value))
    # A key of the configuration is not rounded: runs that differ must look different.
    return formats.cell(name, value) if "." not in name or value != value else str(value)
