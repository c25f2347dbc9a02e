"""Result tables as pandas dataframes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from results import locations
from results.errors import DamagedError
from results.parts import Part, list_parts, read_part
from results.schema import CLIENTS, GROWING, ROUNDS, RUNS
from results.store import run_table

_ATTEMPTS = 10
_THREADS = 16  # more than cores: on an object store, most of the time is waiting
_SCHEMAS = {"runs": RUNS, "rounds": ROUNDS, "clients": CLIENTS}
_KEYS = ("run_id", "round", "client")

Location = str | os.PathLike[str]
_T = TypeVar("_T")
_U = TypeVar("_U")


@dataclass(frozen=True)
class Results:
    """The tables of one or many runs; :mod:`results.schema` says what the columns mean.

    Attributes:
        runs: one row a run.
        rounds: one row a run and round, in order.
        clients: one row a run, round and client, in order.
        damaged: what is wrong with each run that was left out because a file of it is damaged.
        last_written: for each run that is going on, or whose process was killed, when a file of it was written last.
    """

    runs: pd.DataFrame
    rounds: pd.DataFrame
    clients: pd.DataFrame
    damaged: tuple[str, ...] = ()
    last_written: Mapping[str, datetime] = field(default_factory=dict)


def load(
    path: Location | Sequence[Location],
    *,
    where: Mapping[str, Any] | None = None,
    columns: Collection[str] | None = None,
    tables: Collection[str] = ("runs", "rounds", "clients"),
    on_damaged: Literal["warn", "raise"] = "warn",
) -> Results:
    """Load every run at ``path``. A run may still be going on: the rows of its finished rounds are there.

    Args:
        path: a run's folder or a folder of runs, local or an object-store URI; or several of them.
        where: allowed values of columns of the runs table, one or a collection of them, such as
            ``{"method": "deltamask", "seed": [0, 1]}``; None stands for a missing value. Rounds and clients of other
            runs are not read.
        columns: names of the columns to read; each table has those of them that it knows and its keys (``run_id``,
            ``round``, ``client``). All columns when None.
        tables: the tables to read. The others have no rows, but ``runs``, which is always read.
        on_damaged: leave runs with damaged files out, each with a warning that names the file, or raise.

    Raises:
        DamagedError: a file is damaged, and ``on_damaged`` is ``"raise"`` or no run is left.
        FileNotFoundError: there is no run at ``path``.
        LocationError: the URI cannot be opened.
        ValueError: two folders hold the same run, so their rows would count twice; or ``where``, ``columns`` or
            ``tables`` name what does not exist.
    """
    paths = [os.fspath(path)] if isinstance(path, str | os.PathLike) else [os.fspath(one) for one in path]
    _check("tables", tables, _SCHEMAS)
    _check("columns", columns or (), dict.fromkeys(name for schema in _SCHEMAS.values() for name in schema.names))
    wanted = {name: _wanted(schema, columns) for name, schema in _SCHEMAS.items()}
    allowed = {name: _allowed_values(name, value) for name, value in (where or {}).items()}
    for attempt in range(_ATTEMPTS):
        try:
            with ThreadPoolExecutor(_THREADS) as pool:
                loaded = _load(pool, paths, allowed, wanted, tables)
                break
        except FileNotFoundError:
            # A file may vanish between listing and reading, when its run joins its files.
            if attempt == _ATTEMPTS - 1:
                raise
    for error in loaded.damaged:
        if on_damaged == "raise" or (loaded.runs.empty and not where):
            raise DamagedError(error)
        warnings.warn(f"{error}; its run is left out", stacklevel=2)
    return loaded


def _load(
    pool: ThreadPoolExecutor,
    paths: Sequence[str],
    where: Mapping[str, pa.Array],
    wanted: Mapping[str, list[str] | None],
    tables: Collection[str],
) -> Results:
    folders = [found for path in paths for found in _run_folders(path)]
    _each(pool, lambda folder: folder.attempt(lambda: folder.read_run(wanted["runs"], where)), folders)
    chosen = [folder for folder in folders if folder.run is not None]
    rows: dict[str, list[tuple[_Folder, pa.Table | None]]] = {"runs": [(folder, folder.run) for folder in chosen]}
    for table in GROWING:
        files: list[tuple[_Folder, Part]] = []
        if table in tables:
            listed = _each(pool, lambda folder: folder.parts(table), chosen)  # noqa: B023
            files = [(folder, part) for folder, found in zip(chosen, listed, strict=True) for part in found]
        read = _each(pool, lambda file: file[0].attempt(lambda: file[0].read(file[1], wanted[table])), files)  # noqa: B023
        rows[table] = [(folder, part) for (folder, _), part in zip(files, read, strict=True)]
    frames = {
        name: _frame(
            [part for folder, part in rows[name] if folder.damage is None and part is not None], schema, wanted[name]
        )
        for name, schema in _SCHEMAS.items()
    }
    repeated = frames["runs"].loc[frames["runs"]["run_id"].duplicated(), "run_id"].tolist()
    if repeated:
        shown = ", ".join(map(repr, paths))
        raise ValueError(f"path: expected each run once, found several folders with {repeated[0]!r} at {shown}")
    damaged = tuple(folder.damage for folder in folders if folder.damage is not None)
    running = [folder for folder in chosen if folder.is_running()]
    return Results(**frames, damaged=damaged, last_written=dict(_each(pool, lambda one: one.last_written(), running)))


class _Folder:
    """A run that is read; after the first damaged file of it, ``damage`` says what is wrong."""

    def __init__(self, filesystem: fs.FileSystem, path: str) -> None:
        self._fs, self._path = filesystem, path
        self.run: pa.Table | None = None
        self.damage: str | None = None

    def attempt(self, read: Callable[[], _T]) -> _T | None:
        try:
            return read()
        except DamagedError as error:
            self.damage = str(error)
            return None

    def read_run(self, columns: list[str] | None, where: Mapping[str, pa.Array]) -> None:
        """Read the row of the runs table, if it has the allowed values."""
        place = f"{self._path}/run.parquet"
        data = locations.read(self._fs, place)
        if data is None:
            raise FileNotFoundError(place)
        run = run_table(data, place)
        if _matches(run, where):
            self.run = run if columns is None else run.select([name for name in columns if name in run.column_names])

    def is_running(self) -> bool:
        assert self.run is not None
        return "status" in self.run.column_names and self.run["status"][0].as_py() == "running"

    def last_written(self) -> tuple[str, datetime]:
        """Name of the run, and when a file of it was written last."""
        assert self.run is not None
        infos = self._fs.get_file_info(fs.FileSelector(self._path, recursive=True))
        return self.run["run_id"][0].as_py(), max(info.mtime for info in infos if info.is_file)

    def parts(self, table: str) -> list[Part]:
        return list_parts(self._fs, f"{self._path}/{table}")

    def read(self, part: Part, columns: list[str] | None) -> pa.Table:
        return read_part(self._fs, part, columns)


def _run_folders(path: str) -> list[_Folder]:
    filesystem, root = locations.open_filesystem(path)
    root = root.rstrip("/")
    is_folder = filesystem.get_file_info(root).type == fs.FileType.Directory
    infos = filesystem.get_file_info(fs.FileSelector(root)) if is_folder else []
    folders = [root, *sorted(info.path for info in infos if info.type == fs.FileType.Directory)]
    infos = filesystem.get_file_info([f"{folder}/run.parquet" for folder in folders])
    found = [_Folder(filesystem, folder) for folder, info in zip(folders, infos, strict=True) if info.is_file]
    if not found:
        raise FileNotFoundError(f"path: expected a run or a folder of runs, found none at {path!r}")
    return found


def _frame(parts: Sequence[pa.Table], schema: pa.Schema, columns: list[str] | None) -> pd.DataFrame:
    merged = pa.concat_tables([schema.empty_table(), *parts], promote_options="default")
    return (merged if columns is None else merged.select(columns)).to_pandas()


def _wanted(schema: pa.Schema, columns: Collection[str] | None) -> list[str] | None:
    if columns is None:
        return None
    return [name for name in schema.names if name in columns or name in _KEYS]


def _allowed_values(name: str, value: Any) -> pa.Array:
    """The values as an Arrow array of the column's type."""
    _check("where", [name], RUNS.names)
    values = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    kind = RUNS.field(name).type
    try:
        return pa.array(values, type=kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(f"where.{name}: found {value!r}, allowed: values of the type {kind} ({error})") from error


def _matches(run: pa.Table, where: Mapping[str, pa.Array]) -> bool:
    """Whether the one row of ``run`` has an allowed value in each column; a file without the column has null there."""
    for name, allowed in where.items():
        value = run[name] if name in run.column_names else pa.nulls(len(run), allowed.type)
        if not pc.all(pc.is_in(value, value_set=allowed)).as_py():
            return False
    return True


def _check(field: str, found: Iterable[str], allowed: Iterable[str]) -> None:
    unknown = [name for name in found if name not in allowed]
    if unknown:
        raise ValueError(f"{field}: found {unknown[0]!r}, allowed: {', '.join(allowed)}")


def _each(pool: ThreadPoolExecutor, function: Callable[[_T], _U], items: Sequence[_T]) -> list[_U]:
    """``function`` of each item, in order."""
    return list(pool.map(function, items))
