"""Folders of runs that are read: their rows from the index or from their own files, and what is damaged."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from results import locations
from results.errors import DamagedError
from results.index import Index, Rows
from results.parts import list_parts, read_part
from results.schema import PARTED
from results.store import run_table

_INDEXED = 50  # finished runs that had to be opened, from which on the next one should not have to
_SETTLED_SECONDS = 60
_T = TypeVar("_T")


class Folder:
    """A run that is read; after the first damaged file of it, ``damage`` says what is wrong.

    ``rows`` are those that were read, by table, with what identifies the file that they come from.
    """

    def __init__(self, filesystem: fs.FileSystem, path: str, info: fs.FileInfo, index: Index) -> None:
        self._fs, self._path, self.index = filesystem, path, index
        self._name = path.rpartition("/")[2]
        self._key = f"{self._name}/run.parquet {info.size} {info.mtime_ns}"
        self._age = time.time() - info.mtime_ns / 1e9
        self.run: pa.Table | None = None
        self.rows: dict[str, list[tuple[str, Rows]]] = {}
        self.indexed, self._checked = True, True
        self.damage: str | None = None

    def attempt(self, read: Callable[[], _T]) -> _T | None:
        try:
            return read()
        except DamagedError as error:
            self.damage = str(error)
            return None

    def read_run(self, columns: list[str] | None, where: Mapping[str, pa.Array]) -> None:
        """Read the row of the runs table, if it has the allowed values."""
        rows = self.index.get("runs", self._key)
        if rows is None:
            self.indexed = False
            place = f"{self._path}/run.parquet"
            data = locations.read(self._fs, place)
            if data is None:
                raise FileNotFoundError(place)
            rows = Rows.whole(run_table(data, place))
        run = rows.read()
        if _matches(run, where):
            self.rows["runs"] = [(self._key, rows)]
            self.run = run if columns is None else run.select([name for name in columns if name in run.column_names])

    def read_parts(self, table: str, columns: list[str] | None) -> None:
        """Read the rows of a table other than ``runs``."""
        self.rows[table] = []
        for part in list_parts(self._fs, f"{self._path}/{table}"):
            key = f"{self._name}/{table}/{part.path.rpartition('/')[2]}"
            self._checked &= part.checksum is not None
            rows = self.index.get(table, key) if self._checked else None
            if rows is None:
                self.indexed = False
                rows = Rows.whole(read_part(self._fs, part, columns))
            self.rows[table].append((key, rows))

    def is_settled(self) -> bool:
        """Whether it has finished, and its files would be other ones if they were written again.

        They have checksums, and the row of the run is so old that another one would have another time.
        """
        assert self.run is not None
        return self._checked and self.run["status"][0].as_py() == "finished" and self._age > _SETTLED_SECONDS

    def is_running(self) -> bool:
        assert self.run is not None
        return "status" in self.run.column_names and self.run["status"][0].as_py() == "running"

    def last_written(self) -> tuple[str, datetime]:
        """Name of the run, and when a file of it was written last."""
        assert self.run is not None
        infos = self._fs.get_file_info(fs.FileSelector(self._path, recursive=True))
        return self.run["run_id"][0].as_py(), max(info.mtime for info in infos if info.is_file)


def run_folders(path: str, tables: Iterable[str]) -> list[Folder]:
    """The runs at a path, of which these tables are to be read.

    Raises:
        FileNotFoundError: there is none.
    """
    filesystem, root = locations.open_filesystem(path)
    root = root.rstrip("/")
    is_folder = _is_folder(filesystem, root)
    infos = filesystem.get_file_info(fs.FileSelector(root)) if is_folder else []
    folders = [root, *sorted(info.path for info in infos if info.type == fs.FileType.Directory)]
    infos = filesystem.get_file_info([f"{folder}/run.parquet" for folder in folders])
    index = Index(filesystem, root, tables)
    found = [
        Folder(filesystem, folder, info, index) for folder, info in zip(folders, infos, strict=True) if info.is_file
    ]
    if not found:
        raise FileNotFoundError(f"path: expected a run or a folder of runs, found none at {path!r}")
    return found


def write_index(folders: Sequence[Folder]) -> None:
    """Have the next one who loads many finished runs find their rows in one place."""
    settled = [folder for folder in folders if folder.run is not None and not folder.damage and folder.is_settled()]
    if sum(not folder.indexed for folder in settled) >= _INDEXED:
        settled[0].index.write(
            {table: [rows for one in settled for rows in one.rows[table]] for table in ("runs", *PARTED)}
        )


def _matches(run: pa.Table, where: Mapping[str, pa.Array]) -> bool:
    """Whether the one row of ``run`` has an allowed value in each column; a file without the column has null there."""
    for name, allowed in where.items():
        value = run[name] if name in run.column_names else pa.nulls(len(run), allowed.type)
        if not pc.all(pc.is_in(value, value_set=allowed)).as_py():
            return False
    return True


def fingerprints(path: str, ended: Collection[str]) -> dict[str, tuple[str, str | None]]:
    """For each run at a path, by the name of its folder (empty: the path is a run), texts that change as it grows.

    The first stands for ``run.parquet``, the second for the files of its rounds; None: these were not looked at.

    Args:
        path: a run's folder or a folder of runs, local or a URI; empty or missing ones have no runs.
        ended: names of runs that go on no more, of which only ``run.parquet`` is looked at.
    """
    filesystem, root = locations.open_filesystem(path)
    root = root.rstrip("/")
    infos = filesystem.get_file_info(fs.FileSelector(root)) if _is_folder(filesystem, root) else []
    names = ["", *sorted(info.base_name for info in infos if info.type == fs.FileType.Directory)]
    found: dict[str, tuple[str, str | None]] = {}
    for name, info in zip(names, filesystem.get_file_info([_run_file(root, name) for name in names]), strict=True):
        if info.is_file:
            folder = f"{root}/{name}/rounds" if name else f"{root}/rounds"
            rounds = None if name in ended else " ".join(part.path for part in list_parts(filesystem, folder))
            found[name] = f"{info.size} {info.mtime_ns}", rounds
    return found


def _is_folder(filesystem: fs.FileSystem, root: str) -> bool:
    return bool(filesystem.get_file_info(root).type == fs.FileType.Directory)


def _run_file(root: str, name: str) -> str:
    return f"{root}/{name}/run.parquet" if name else f"{root}/run.parquet"
