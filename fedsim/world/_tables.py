"""Tables that a user has of a world."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from fedsim.errors import ConfigError


def read_table(key: str, path: str, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns of a Parquet or CSV file, float64 of the same length, all finite.

    Args:
        key: the configuration key that names the file, for errors.
        path: of the file; CSV where its name ends so.
        columns: their names.

    Raises:
        ConfigError: the file cannot be read, or lacks a column, or a value is not a finite number.
    """
    try:
        place = Path(path).expanduser()
        table = csv.read_csv(place) if place.suffix == ".csv" else parquet.read_table(place)
        missing = [name for name in columns if name not in table.column_names]
        if missing:
            raise ConfigError(f"{key}: found the columns {table.column_names}, allowed: also {', '.join(missing)}")
        found = {name: table[name].cast(pa.float64()).to_numpy() for name in columns}
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{key}: {path!r} cannot be read: {' '.join(str(error).split())}") from error
    for name, values in found.items():
        if not np.isfinite(values).all():
            raise ConfigError(f"{key}: found a value of {name} that is not a finite one above 0")
    return found
