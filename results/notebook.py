"""Results as a notebook shows them: their tables and the figure of single runs."""

from __future__ import annotations

import base64
import html
import io

import pandas as pd

from results import formats
from results.figures import accuracy_and_bpp
from results.frames import Results

_RUNS = ("run_id", "status", "method", "dataset", "partition", "seed", "final_accuracy", "uplink_bpp", "uplink_bytes")
_ROUNDS = ("run_id", "round", "accuracy", "loss", "uplink_bytes", "uplink_bpp", "round_seconds")
_DRAWN, _ROWS = 12, 12  # runs of the figure, and rows of a table, from which on less is shown


def as_html(results: Results) -> str:
    """Tables of runs and rounds, thinned where they are long, and of up to 12 runs accuracy and bpp over rounds."""
    parts = [_table(results.runs, _RUNS), _table(results.rounds, _ROUNDS)]
    if 0 < len(results.runs) <= _DRAWN and len(results.rounds):
        stream = io.BytesIO()
        accuracy_and_bpp(results).savefig(stream, format="png", dpi=100)
        picture = base64.b64encode(stream.getvalue()).decode()
        parts.append(f'<img alt="accuracy and bpp" src="data:image/png;base64,{picture}">')
    return "\n".join(parts)


def _table(frame: pd.DataFrame, columns: tuple[str, ...]) -> str:
    step = max(1, -(-len(frame) // _ROWS))
    positions = sorted({*range(0, len(frame), step), *range(len(frame) - 1, len(frame))})
    shown = frame.iloc[positions][[name for name in columns if name in frame]]
    note = f" ({len(shown)} of {len(frame):,} rows)" if len(shown) < len(frame) else ""
    table: str = formats.text(shown).to_html(index=False, border=0)
    return f"{table}<small>{html.escape(note)}</small>" if note else table
