"""An index beside many finished runs: copies of their rows, a file a table, so that not each run has to be opened.

It is never the truth. Rows of the index count for a file as long as that file is what they were copied from: a file of
rounds or clients has a checksum in its name, and the row of a run its size and time; any other file is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from results import locations
from results.errors import DamagedError
from results.parts import read_table, to_parquet

_FOLDER = ".index"  # of the index, in that of the runs
_FILE = "_file"  # column with the file that a row comes from, and what identifies its content


@dataclass(frozen=True)
class Rows:
    """Rows of one file: some consecutive ones of a table."""

    table: pa.Table
    start: int
    stop: int

    @classmethod
    def whole(cls, table: pa.Table) -> Rows:
        """All rows of a table."""
        return cls(table, 0, len(table))

    def read(self) -> pa.Table:
        """The rows alone."""
        return self.table.slice(self.start, self.stop - self.start)


def joined(parts: Iterable[Rows]) -> list[pa.Table]:
    """Rows in order, in as few tables as may be: what follows each other in a table stays together."""
    found: list[Rows] = []
    for part in parts:
        if found and found[-1].table is part.table and found[-1].stop == part.start:
            found[-1] = Rows(part.table, found[-1].start, part.stop)
        else:
            found.append(part)
    return [part.read() for part in found]


class Index:
    """The index of a folder of runs; empty where there is none, or it is damaged.

    Args:
        filesystem: where.
        root: the folder of runs.
        tables: names of the tables to read.
    """

    def __init__(self, filesystem: fs.FileSystem, root: str, tables: Iterable[str]) -> None:
        self._fs, self._root = filesystem, root
        self._rows = {table: self._read(table) for table in tables}

    def get(self, table: str, key: str) -> Rows | None:
        """The rows of a file, by its path below the root and what identifies its content; None: they are not here."""
        return self._rows[table].get(key)

    def write(self, rows: Mapping[str, Sequence[tuple[str, Rows]]]) -> None:
        """Replace the index by these rows of each table, with the keys that :meth:`get` takes.

        Where this is not allowed, there is none.
        """
        for table, keyed in rows.items():
            if not keyed:
                continue
            keys = pa.array([key for key, _ in keyed])
            counts = np.array([part.stop - part.start for _, part in keyed])
            merged = pa.concat_tables(joined(part for _, part in keyed), promote_options="default")
            column = pa.DictionaryArray.from_arrays(np.repeat(np.arange(len(keys), dtype=np.int32), counts), keys)
            data = to_parquet(merged.append_column(_FILE, column))
            place = self._place(table)
            with suppress(OSError):
                locations.write(self._fs, place, data, f"{place}.tmp")

    def _place(self, table: str) -> str:
        return f"{self._root}/{_FOLDER}/{table}.parquet"

    def _read(self, table: str) -> dict[str, Rows]:
        try:
            data = locations.read(self._fs, self._place(table))
            if data is None:
                return {}
            found = read_table(data, self._place(table)).combine_chunks()
            column = found[_FILE].combine_chunks()
        except (DamagedError, OSError, KeyError):
            return {}
        codes = pc.dictionary_encode(column) if not pa.types.is_dictionary(column.type) else column
        numbers, names = codes.indices.to_numpy(), codes.dictionary.to_pylist()
        starts = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
        rows, ends = found.drop_columns([_FILE]), [*starts[1:], len(found)]
        return {names[numbers[start]]: Rows(rows, start, stop) for start, stop in zip(starts, ends, strict=True)}
