"""Values as text, rounded by what their column holds."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

_DECIMALS = {"accuracy": 3, "bpp": 4, "share": 3}


def cell(column: str, value: Any) -> str:
    """A value of a column as text: accuracies with 3 decimals, bpp with 4, counts with separators; empty for null."""
    if value is None or value is pd.NaT or value is pd.NA or value != value:
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if not isinstance(value, Real):
        return str(value)
    if isinstance(value, Integral) or column.endswith("bytes"):
        return f"{float(value):,.0f}"
    if "seconds" in column:
        return f"{float(value):.3g}" if float(value) < 10 else f"{float(value):,.1f}"
    for word, decimals in _DECIMALS.items():
        if word in column:
            return f"{float(value):.{decimals}f}"
    return f"{float(value):.6g}"


def setting(key: str, value: Any) -> str:
    """A key with its value, short: ``alpha 0.1``, and the value alone where it speaks for itself."""
    # Not rounded by what the key is, as in a column: settings that differ must look different.
    number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    text = (f"{value:.10g}" if number and value == value else cell(key, value)) or "none"
    name = key.rpartition(".")[2]
    return f"{name} {text}" if isinstance(value, Real) or text == "none" else text


def spread(mean: float, std: float) -> str:
    """Accuracies in points: ``57.6 ± 0.4``, or ``57.6`` for a single run."""
    return cell("", None) if mean != mean else f"{100 * mean:.1f}" + (f" ± {100 * std:.1f}" if std == std else "")


def text(table: pd.DataFrame) -> pd.DataFrame:
    """The table with text in every cell."""
    return pd.DataFrame({name: [cell(str(name), value) for value in table[name]] for name in table}, dtype=str)


def is_number(column: pd.Series[Any]) -> bool:
    """Whether a column holds numbers, and so belongs to the right."""
    return is_numeric_dtype(column) and not is_bool_dtype(column)


def left_out(table: pd.DataFrame) -> str:
    """A note on runs that the table leaves out because they are not finished, or nothing."""
    count = table.attrs.get("unfinished", 0)
    if not count:
        return ""
    return f"{count} run{'s' if count > 1 else ''} left out: not finished."
