"""Append-only, atomic writing of the result tables, on a local path or an object store.

A run lives under ``<output>/<run_id>/``::

    run.parquet                      one row of the runs table, replaced as a whole
    rounds/000000-000019.parquet     rows of rounds 0 to 19; clients/ likewise

A round is appended as a file of its own; :meth:`RunStore.compact` joins files. A file whose rounds all lie within
another file's is ignored by readers, so a crash between writing the joined file and removing its parts doubles nothing.
Files appear by rename (or by the object store's atomic put), so a reader never sees half of one.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from results.schema import GROWING, RUNS

_PART = re.compile(r"(\d{6,})-(\d{6,})\.parquet")


def open_filesystem(location: str) -> tuple[fs.FileSystem, str]:
    """The filesystem and path of a local path or a URI such as ``s3://bucket/runs``.

    Raises:
        LocationError: the URI cannot be opened.
    """
    if "://" in location:
        try:
            return fs.FileSystem.from_uri(location)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise LocationError(
                f"found {location!r}, allowed: a local path or an s3://, gs:// or file:// URI ({error})"
            ) from error
    return fs.LocalFileSystem(), location


class LocationError(ValueError):
    """A location of results is neither a path nor a URI that can be opened."""


class RunStore:
    """The files of one run.

    Args:
        output: folder of all runs, a local path or an object-store URI.
        run_id: name of the run.
    """

    def __init__(self, output: str, run_id: str) -> None:
        self.run_id = run_id
        self._fs, root = open_filesystem(output)
        self.path = f"{root.rstrip('/')}/{run_id}"
        #: Where the run is, as the user wrote it.
        folder, question_mark, options = output.partition("?") if "://" in output else (output, "", "")
        self.location = f"{folder.rstrip('/')}/{run_id}{question_mark}{options}"
        self._lock: BinaryIO | None = None

    def write_bytes(self, name: str, data: bytes | pa.Buffer) -> None:
        """Write or replace a file of the run, atomically."""
        target = f"{self.path}/{name}"
        local = isinstance(self._fs, fs.LocalFileSystem)
        if local:
            self._fs.create_dir(target.rpartition("/")[0], recursive=True)
        written = f"{self.path}/.{name.replace('/', '-')}.{os.getpid()}.tmp" if local else target
        with self._fs.open_output_stream(written) as stream:
            stream.write(data)
        if local:
            self._fs.move(written, target)

    def read_bytes(self, name: str) -> bytes | None:
        """A file of the run, or None when there is none of that name."""
        try:
            with self._fs.open_input_stream(f"{self.path}/{name}") as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def delete(self) -> None:
        """Remove the run with everything in it; nothing happens when it does not exist.

        Raises:
            OSError: another process writes the run.
        """
        if self._fs.get_file_info(self.path).type != fs.FileType.NotFound:
            self.lock()
            if self.read_run() is not None:
                self._fs.delete_file(f"{self.path}/run.parquet")  # first: what is left is no run
            self._fs.delete_dir(self.path)
            self.unlock()

    def lock(self) -> None:
        """Keep other processes from writing this run until :meth:`unlock` or the end of this process.

        On a local filesystem only; on an object store, two writers of one run are the user's to avoid.

        Raises:
            OSError: another process writes the run.
        """
        if isinstance(self._fs, fs.LocalFileSystem) and self._lock is None:
            self._fs.create_dir(self.path, recursive=True)
            lock = open(f"{self.path}/.lock", "wb")  # noqa: SIM115 - held until unlock
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                lock.close()
                raise OSError(f"{self.location}: another process is writing this run") from error
            self._lock = lock

    def unlock(self) -> None:
        """Let other processes write this run."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write_run(self, row: Mapping[str, Any]) -> None:
        """Write or replace the run's row of the runs table."""
        self.write_bytes("run.parquet", _parquet(RUNS, [row]))

    def read_run(self) -> dict[str, Any] | None:
        """The run's row of the runs table, or None for a run that never started."""
        data = self.read_bytes("run.parquet")
        return None if data is None else pq.read_table(pa.BufferReader(data)).to_pylist()[0]

    def append(self, table: str, round_index: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of one round of ``rounds`` or ``clients``; rounds come in order, see :meth:`truncate`."""
        self.write_bytes(_part_name(table, round_index, round_index), _parquet(GROWING[table], rows))

    def compact(self) -> None:
        """Join the files of each growing table into one."""
        for table in GROWING:
            every = part_files(self._fs, self.path, table, covered=True)
            parts = part_files(self._fs, self.path, table)
            if len(parts) > 1:
                tables = [pq.read_table(path, filesystem=self._fs, partitioning=None) for _, _, path in parts]
                joined = _part_name(table, parts[0][0], parts[-1][1])
                self.write_bytes(joined, _serialise(pa.concat_tables(tables)))
                keep = f"{self.path}/{joined}"
            else:
                keep = parts[0][2] if parts else ""
            for _, _, path in every:
                if path != keep:
                    self._fs.delete_file(path)

    def truncate(self, next_round: int) -> None:
        """Drop rows of rounds from ``next_round`` on: a resumed run writes them again."""
        for table in GROWING:
            for first, last, path in part_files(self._fs, self.path, table, covered=True):
                if first >= next_round:
                    self._fs.delete_file(path)
                elif last >= next_round:
                    kept = pq.read_table(path, filesystem=self._fs, filters=[("round", "<", next_round)])
                    self.write_bytes(_part_name(table, first, next_round - 1), _serialise(kept))
                    self._fs.delete_file(path)


def part_files(
    filesystem: fs.FileSystem, run_path: str, table: str, *, covered: bool = False
) -> list[tuple[int, int, str]]:
    """The files of a growing table as (first round, last round, path), in order, without those that another covers."""
    selector = fs.FileSelector(f"{run_path}/{table}", allow_not_found=True)
    parts = []
    for info in filesystem.get_file_info(selector):
        match = _PART.fullmatch(info.base_name)
        if match:
            parts.append((int(match[1]), int(match[2]), info.path))
    parts.sort(key=lambda part: (part[0], -part[1]))
    if covered:
        return parts
    kept: list[tuple[int, int, str]] = []
    for part in parts:
        if not kept or part[1] > kept[-1][1]:
            kept.append(part)
    return kept


def _part_name(table: str, first: int, last: int) -> str:
    return f"{table}/{first:06d}-{last:06d}.parquet"


def _parquet(schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> pa.Buffer:
    for row in rows:
        unknown = row.keys() - set(schema.names)
        if unknown:
            raise ValueError(f"columns: found {sorted(unknown)}, allowed: {schema.names}")
    return _serialise(pa.Table.from_pylist([dict(row) for row in rows], schema=schema))


def _serialise(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
