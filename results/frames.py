"""Result tables as pandas dataframes."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeVar

import pandas as pd
import pyarrow as pa

from results.errors import DamagedError
from results.folders import run_folders, write_index
from results.index import joined
from results.schema import CLASSES, PARTED, RUNS

_ATTEMPTS = 10
_THREADS = 16  # more than cores: on an object store, most of the time is waiting
_SCHEMAS = {"runs": RUNS, **PARTED}
_KEYS = ("run_id", "round", "client", "class")

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
        classes: one row a run and class, for runs that did all their rounds.
        damaged: what is wrong with each run that was left out because a file of it is damaged.
        last_written: for each run that is going on, or whose process was killed, when a file of it was written last.
    """

    runs: pd.DataFrame
    rounds: pd.DataFrame
    clients: pd.DataFrame
    classes: pd.DataFrame = field(default_factory=lambda: CLASSES.empty_table().to_pandas())
    damaged: tuple[str, ...] = ()
    last_written: Mapping[str, datetime] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        # By name: it draws, and figures are made of results.
        page: str = importlib.import_module("results.notebook").as_html(self)
        return page


def load(
    path: Location | Sequence[Location],
    *,
    where: Mapping[str, Any] | None = None,
    columns: Collection[str] | None = None,
    tables: Collection[str] = tuple(_SCHEMAS),
    on_damaged: Literal["warn", "raise"] = "warn",
) -> Results:
    """Load every run at ``path``. A run may still be going on: the rows of its finished rounds are there.

    Args:
        path: a run's folder or a folder of runs, local or an object-store URI; or several of them.
        where: allowed values of columns of the runs table, one or a collection of them, such as
            ``{"method": "deltamask", "seed": [0, 1]}``; None stands for a missing value. Other tables of other
            runs are not read.
        columns: names of the columns to read; each table has those of them that it knows and its keys (``run_id``,
            ``round``, ``client``, ``class``). All columns when None.
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
    groups = [run_folders(path, {"runs", *tables}) for path in paths]
    folders = [found for group in groups for found in group]
    _each(pool, lambda folder: folder.attempt(lambda: folder.read_run(wanted["runs"], where)), folders)
    chosen = [folder for folder in folders if folder.run is not None]
    for table in PARTED:
        if table in tables:
            _each(pool, lambda folder: folder.attempt(lambda: folder.read_parts(table, wanted[table])), chosen)  # noqa: B023
    whole = [folder for folder in chosen if folder.damage is None]
    frames = {
        name: _frame(joined(rows for folder in whole for _, rows in folder.rows.get(name, ())), schema, wanted[name])
        for name, schema in _SCHEMAS.items()
    }
    if not where and set(tables) == set(_SCHEMAS) and not any(wanted.values()):
        for group in groups:
            write_index(group)
    repeated = frames["runs"].loc[frames["runs"]["run_id"].duplicated(), "run_id"].tolist()
    if repeated:
        shown = ", ".join(map(repr, paths))
        raise ValueError(f"path: expected each run once, found several folders with {repeated[0]!r} at {shown}")
    damaged = tuple(folder.damage for folder in folders if folder.damage is not None)
    running = [folder for folder in chosen if folder.is_running()]
    return Results(**frames, damaged=damaged, last_written=dict(_each(pool, lambda one: one.last_written(), running)))


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


def _check(field: str, found: Iterable[str], allowed: Iterable[str]) -> None:
    unknown = [name for name in found if name not in allowed]
    if unknown:
        raise ValueError(f"{field}: found {unknown[0]!r}, allowed: {', '.join(allowed)}")


def _each(pool: ThreadPoolExecutor, function: Callable[[_T], _U], items: Sequence[_T]) -> list[_U]:
    """``function`` of each item, in order."""
    return list(pool.map(function, items))
