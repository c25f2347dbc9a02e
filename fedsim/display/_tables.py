"""Tables of one run for the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

import results

_SHOWN_ROUNDS = 25


def summary(loaded: results.Results) -> list[Table]:
    """Tables of one run: its rounds (evenly thinned when there are many) and its totals."""
    run = loaded.runs.iloc[0]
    return [rounds_table(loaded.rounds), _totals_table(run, loaded)]


def rounds_table(rounds: Any) -> Table:
    """Rounds, evenly thinned when there are many."""
    step = -(-len(rounds) // _SHOWN_ROUNDS)
    shown = rounds[(rounds["round"] % step == 0) | (rounds.index == rounds.index[-1])]
    masks = bool(rounds["accuracy_expected"].notna().any())
    table = Table(box=None, pad_edge=False)
    headings = ["round", "accuracy", *(["expected", "sampled"] if masks else []), "loss", "uplink", "bpp", "seconds"]
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in shown.itertuples():
        extra = [_share(row.accuracy_expected), _share(row.accuracy_sampled)] if masks else []
        name = "head" if row.round == 0 else str(row.round)
        table.add_row(
            name,
            _share(row.accuracy),
            *extra,
            _share(row.loss),
            size(row.uplink_bytes),
            f"{row.uplink_bpp:.4f}",
            f"{row.round_seconds:.1f}",
        )
    return table


def _totals_table(run: Any, loaded: results.Results) -> Table:
    from pandas import isna  # slow to import, and help needs it not

    client_rounds, lost = len(loaded.clients), loaded.clients["error"].notna().sum()
    clock = loaded.rounds["simulated_clock"].max()
    gain = 100 * (run.final_accuracy - run.linear_probe_accuracy)
    best = ""
    if not isna(run.best_round):
        best = f"{run.best_accuracy:.3f} in round {run.best_round:.0f}, the best on validation samples"
    table = Table(box=None, pad_edge=False, show_header=False)
    uplink, downlink = run.uplink_bytes / client_rounds, run.downlink_bytes / client_rounds
    for name, value in (
        ("", ""),
        ("run", f"{run.run_id} ({run.status})"),
        ("head", f"{run.linear_probe_accuracy:.3f} accuracy, on the unchanged backbone"),
        ("final", f"{run.final_accuracy:.3f} accuracy ({gain:+.1f} points)"),
        *([("best", best)] if best else []),
        (
            "uplink",
            f"{size(run.uplink_bytes)}, {size(uplink)} a client-round; {run.uplink_bpp:.4f} bpp of mask updates",
        ),
        ("downlink", f"{size(run.downlink_bytes)}, {size(downlink)} a client-round"),
        ("masked", f"{run.masked_parameters:,} parameters; float32 would be {size(4 * run.masked_parameters)}"),
        *([("lost", f"{lost} of {client_rounds} client-rounds")] if lost else []),
        ("time", f"{run.wall_seconds:.1f} s in rounds"),
        *([] if isna(clock) else [("world", f"{clock:,.1f} simulated seconds")]),
        *([("warning", run.warnings)] if isinstance(run.warnings, str) else []),
    ):
        table.add_row(name, value)
    return table


def plain_table(*columns: str) -> Table:
    """An empty table without lines."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def size(count: float) -> str:
    """Bytes with a unit of powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _share(value: float) -> str:
    return "" if value != value else f"{value:.3f}"


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
