"""Append-only, atomic writing of the result tables, on a local path or an object store.

A run lives under ``<output>/<run_id>/``::

    run.parquet                                        one row of the runs table, replaced as a whole
    rounds/000000-000019.<owner>.<checksum>.parquet    rows of rounds 0 to 19; clients/ likewise
    classes/000019-000019.<owner>.<checksum>.parquet   of the model after the last round, which is 19
    owner.json                                         the process that writes, see :mod:`results.owner`

Rounds are appended as a file of their own; :meth:`RunStore.compact` joins files. A file whose rounds all lie within
another file's is ignored by readers, so a crash between writing the joined file and removing its parts doubles nothing.
Files appear by rename (or by the object store's atomic put), so a reader never sees half of one. Nobody removes what
came from a process that took the run over.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import warnings
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
from pyarrow import fs

from results import locations
from results.errors import DamagedError
from results.locations import open_filesystem
from results.owner import Owner
from results.parts import Part, list_parts, name_of, read_part, read_table, to_parquet, to_table
from results.schema import PARTED, RUNS

_RUN = "run.parquet"
_CHECKSUM = b"checksum"
_TEMPORARY = re.compile(r"\..*\.tmp")


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
        self.location = locations.join(output, run_id)
        self._owner = Owner(self._fs, self.path, self.location)
        self._inherited: frozenset[str] | None = None  # the files that were there when this process took the run

    @property
    def token(self) -> str:
        """Names this process in what it writes, 8 hex digits."""
        return self._owner.token

    def write_bytes(self, name: str, data: bytes | pa.Buffer) -> None:
        """Write or replace a file of the run, atomically.

        Raises:
            OwnershipError: another process took the run over.
        """
        self._owner.check()
        hidden = f"{self.path}/.{name.replace('/', '-')}.{self._owner.token}.tmp"
        locations.write(self._fs, f"{self.path}/{name}", memoryview(data), hidden)

    def read_bytes(self, name: str) -> bytes | None:
        """A file of the run, or None when there is none of that name."""
        return locations.read(self._fs, f"{self.path}/{name}")

    def files(self, prefix: str) -> list[str]:
        """Names of the run's files that begin so, in alphabetical order; not of those in its folders."""
        infos = self._fs.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return sorted(info.base_name for info in infos if info.is_file and info.base_name.startswith(prefix))

    def delete(self) -> None:
        """Remove the run with everything in it; nothing happens when it does not exist.

        Raises:
            OwnershipError: another process writes the run.
        """
        if self._fs.get_file_info(self.path).type != fs.FileType.NotFound:
            self.lock()
            if self._fs.get_file_info(f"{self.path}/{_RUN}").is_file:
                self._fs.delete_file(f"{self.path}/{_RUN}")  # first: what is left is no run
            self._fs.delete_dir(self.path)
            self.unlock()

    def remove(self, names: Sequence[str]) -> None:
        """Remove files of the run, of which some may be gone already."""
        self._owner.check()
        for name in names:
            self._delete(f"{self.path}/{name}")

    def lock(self) -> None:
        """Become the one that writes this run, until :meth:`unlock` or the end of this process.

        Raises:
            OwnershipError: on a local filesystem, another process is writing the run.
        """
        if not self._owner.held:
            self._owner.take()
            every = [part.path for table in PARTED for part in self.parts(table, covered=True)]
            self._inherited = frozenset(every)
            self._sweep()

    def unlock(self) -> None:
        """Let other processes write this run."""
        self._owner.release()

    def write_run(self, row: Mapping[str, Any]) -> None:
        """Write or replace the run's row of the runs table."""
        table = to_table(RUNS, [row])
        metadata = {**(table.schema.metadata or {}), _CHECKSUM: _row_checksum(table)}
        self.write_bytes(_RUN, to_parquet(table.replace_schema_metadata(metadata)))

    def end(self, status: str, error: str | None, row: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """Give a run whose process is gone another status; nothing happens to one that never started.

        Args:
            status: one of :data:`results.schema.STATUSES`.
            error: what failed.
            row: what to store of a run that has no row yet.

        Returns:
            Its row of the runs table, if there is one.

        Raises:
            OwnershipError: another process writes the run.
        """
        known = self.run_or_none() or row
        if known is None:
            return None
        ended = {**known, "status": status, "error": error, "finished_at": datetime.now(timezone.utc)}
        self.lock()
        self.write_run(ended)
        self.unlock()
        return ended

    def read_run(self) -> dict[str, Any] | None:
        """The run's row of the runs table, or None for a run that never started.

        Raises:
            DamagedError: the file is damaged.
        """
        data = self.read_bytes(_RUN)
        if data is None:
            return None
        row: dict[str, Any] = run_table(data, f"{self.location}: {_RUN}").to_pylist()[0]
        return row

    def run_or_none(self) -> dict[str, Any] | None:
        """The same, and None also where the file is damaged, with a warning that names it."""
        try:
            return self.read_run()
        except DamagedError as error:
            warnings.warn(str(error), stacklevel=2)
            return None

    def parts(self, table: str, *, covered: bool = False) -> list[Part]:
        """The files of ``rounds``, ``clients`` or ``classes``, see :func:`results.parts.list_parts`."""
        return list_parts(self._fs, f"{self.path}/{table}", covered=covered)

    def rows(self, table: str) -> tuple[pa.Table, list[str]]:
        """All stored rows of one of these tables, and what is wrong with the files that are damaged."""
        found, damaged = [PARTED[table].empty_table()], []
        for part in self.parts(table):
            try:
                found.append(read_part(self._fs, part))
            except DamagedError as error:
                damaged.append(str(error))
        return pa.concat_tables(found, promote_options="default"), damaged

    def append(self, table: str, first: int, last: int, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        """Write the rows of some rounds of one of these tables, and return them with all columns.

        Rounds come in order, see :meth:`truncate`.
        """
        written = to_table(PARTED[table], rows)
        self._write_part(table, first, last, written)
        return written

    def compact(self, first: int = 0) -> None:
        """Join the files of each table into one: those that begin with a round, or after it."""
        for table in PARTED:
            every = [part for part in self.parts(table, covered=True) if part.first >= first]
            parts = [part for part in self.parts(table) if part.first >= first]
            kept = parts[0].path if parts else ""
            if len(parts) > 1:
                tables = [read_part(self._fs, part) for part in parts]
                kept = self._write_part(table, parts[0].first, parts[-1].last, pa.concat_tables(tables))
            self._remove_parts([part for part in every if part.path != kept])

    def truncate(self, next_round: int) -> None:
        """Drop rows of rounds from ``next_round`` on: a resumed run writes them again."""
        for table in PARTED:
            for part in self.parts(table, covered=True):
                if part.first < next_round <= part.last and self._may_remove(part):
                    rows = read_part(self._fs, part)
                    kept = rows.filter(pa.compute.less(rows["round"], next_round))
                    self._write_part(table, part.first, next_round - 1, kept)
                if part.last >= next_round:
                    self._remove_parts([part])

    def _write_part(self, table: str, first: int, last: int, rows: pa.Table) -> str:
        data = to_parquet(rows)
        name = f"{table}/{name_of(first, last, self._owner.token, data)}"
        self.write_bytes(name, data)
        return f"{self.path}/{name}"

    def _may_remove(self, part: Part) -> bool:
        """Whether a file is of this process, or was there when it took the run."""
        return self._inherited is None or part.owner == self._owner.token or part.path in self._inherited

    def _remove_parts(self, parts: Sequence[Part]) -> None:
        for part in parts:
            if self._may_remove(part):
                self._owner.check()
                self._delete(part.path)

    def _delete(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.delete_file(path)

    def _sweep(self) -> None:
        """Remove what earlier owners had not finished writing."""
        if isinstance(self._fs, fs.LocalFileSystem):
            for name in os.listdir(self.path):
                if _TEMPORARY.fullmatch(name) and self._owner.token not in name:
                    self._delete(f"{self.path}/{name}")


def run_table(data: bytes, place: str) -> pa.Table:
    """The one row of ``run.parquet``.

    Raises:
        DamagedError: the file is damaged.
    """
    table = read_table(data, place)
    expected = (table.schema.metadata or {}).get(_CHECKSUM)
    if len(table) != 1 or expected not in (None, _row_checksum(table)):
        raise DamagedError(f"{place}: damaged: its row is not what was written")
    return table


def _row_checksum(table: pa.Table) -> bytes:
    return b"%08x" % zlib.crc32(json.dumps(table.to_pylist(), sort_keys=True, default=str).encode())
