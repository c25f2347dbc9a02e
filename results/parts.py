"""The files of the tables that grow: one holds the rows of some consecutive rounds, and says in its name who wrote it.

A name is ``000000-000019.<owner>.<checksum>.parquet``: first and last round, the token of the process that wrote it,
the CRC-32 of the whole file. Files of version 0.1 have the rounds alone.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from results import locations
from results.errors import DamagedError

_NAME = re.compile(r"(\d{6,})-(\d{6,})(?:\.([0-9a-f]{8})\.([0-9a-f]{8}))?\.parquet")


class Part(NamedTuple):
    """A file of a growing table.

    Attributes:
        first, last: its rounds.
        owner: token of the process that wrote it; None in version 0.1.
        checksum: CRC-32 of the file; likewise.
        path: the file.
    """

    first: int
    last: int
    owner: str | None
    checksum: int | None
    path: str


def list_parts(filesystem: fs.FileSystem, folder: str, *, covered: bool = False) -> list[Part]:
    """The files of a table in the order of their rounds, without those whose rounds another one has, too.

    Args:
        filesystem: where.
        folder: the table's folder; it need not exist.
        covered: name all files.
    """
    parts = []
    for info in filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
        match = _NAME.fullmatch(info.base_name)
        if match:
            checksum = None if match[4] is None else int(match[4], 16)
            parts.append(Part(int(match[1]), int(match[2]), match[3], checksum, info.path))
    parts.sort(key=lambda part: (part.first, -part.last, part.path))
    if covered:
        return parts
    kept: list[Part] = []
    for part in parts:
        if not kept or part.last > kept[-1].last:
            kept.append(part)
    return kept


def name_of(first: int, last: int, owner: str, data: pa.Buffer) -> str:
    """The name of the file that holds ``data``."""
    return f"{first:06d}-{last:06d}.{owner}.{zlib.crc32(data):08x}.parquet"


def read_part(filesystem: fs.FileSystem, part: Part, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a file.

    Raises:
        DamagedError: it is not what its writer wrote.
        FileNotFoundError: it is gone: its rows are in another file now.
    """
    data = locations.read(filesystem, part.path)
    if data is None:
        raise FileNotFoundError(part.path)
    if part.checksum is not None and zlib.crc32(data) != part.checksum:
        raise DamagedError(
            f"{part.path}: damaged: expected the checksum {part.checksum:08x}, found {zlib.crc32(data):08x}"
        )
    return read_table(data, part.path, columns)


def read_table(data: bytes, place: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a Parquet file, without those columns that it lacks.

    Raises:
        DamagedError: it is no Parquet file, or a page of it was changed.
    """
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as opened:
            known = None if columns is None else [name for name in columns if name in opened.schema_arrow.names]
            return opened.read(known, use_threads=False)  # the threads are over files
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DamagedError(f"{place}: damaged: {' '.join(str(error).split())}") from error


def to_table(schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table.

    Raises:
        ValueError: a row has a column that the schema lacks.
    """
    for row in rows:
        unknown = row.keys() - set(schema.names)
        if unknown:
            raise ValueError(f"columns: found {sorted(unknown)}, allowed: {schema.names}")
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)


def to_parquet(table: pa.Table) -> pa.Buffer:
    """A table as the bytes of a Parquet file with a checksum of every page."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()
