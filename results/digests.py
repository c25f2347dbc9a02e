"""Digests of what each round stored, to tell whether all of it is still there."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

#: Columns that say how rows were computed, not what came out; they differ when a round is computed again.
_MEASURED = ("_seconds", "attempt", "retries", "prefix_images", "run_id")


def round_digests(rounds: pd.DataFrame, clients: pd.DataFrame) -> dict[int, int]:
    """A number below 2^63 for each round: of its row and of its clients' rows, without what was measured with a clock.

    Args:
        rounds, clients: rows of the tables of one run, with all columns of their schemas.
    """
    found: dict[int, list[bytes]] = {}
    for frame in (rounds, clients):
        ordered = frame.sort_values(["round", *(["client"] if "client" in frame else [])], kind="stable")
        columns = [ordered[name] for name in sorted(map(str, ordered)) if not name.endswith(_MEASURED)]
        numbers = [_numbers(column) for column in columns if is_numeric_dtype(column)]
        texts = [column.fillna("").to_numpy(object) for column in columns if not is_numeric_dtype(column)]
        indices, starts = np.unique(ordered["round"].to_numpy(np.int64), return_index=True)
        for index, start, end in zip(indices, starts, [*starts, len(ordered)][1:], strict=True):
            parts = [array[start:end].tobytes() for array in numbers]
            parts += ["\0".join(map(str, array[start:end])).encode() for array in texts]
            found.setdefault(int(index), []).extend(parts)
    return {index: _number(parts) for index, parts in found.items()}


def _numbers(column: pd.Series[float]) -> np.ndarray:
    """Whole numbers too as float64, since a column with a missing value has them so; one pattern for all missing."""
    values = column.to_numpy(np.float64, na_value=np.nan)
    return np.where(np.isnan(values), np.nan, values)


def _number(parts: list[bytes]) -> int:
    digest = hashlib.blake2b(b"".join(parts), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
