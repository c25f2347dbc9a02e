"""Result tables as pandas dataframes."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from results.schema import CLIENTS, GROWING, ROUNDS, RUNS
from results.store import open_filesystem, part_files

_ATTEMPTS = 10


@dataclass(frozen=True)
class Results:
    """The tables of one or many runs; :mod:`results.schema` says what the columns mean.

    Attributes:
        runs: one row a run.
        rounds: one row a run and round, in order.
        clients: one row a run, round and client, in order.
    """

    runs: pd.DataFrame
    rounds: pd.DataFrame
    clients: pd.DataFrame


def load(path: str | os.PathLike[str]) -> Results:
    """Load every run at ``path``: a run's folder or a folder of runs, local or an object-store URI.

    A run may still be going on: the rows of its finished rounds are there.

    Raises:
        FileNotFoundError: there is no run at ``path``.
        LocationError: the URI cannot be opened.
        ValueError: two folders hold the same run, so their rows would count twice.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return _load(os.fspath(path))
        except FileNotFoundError:
            # A file may vanish between listing and reading, when its run joins its files.
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _load(path: str) -> Results:
    filesystem, root = open_filesystem(path)
    folders = [root.rstrip("/"), *_subfolders(filesystem, root.rstrip("/"))]
    folders = [
        folder
        for folder, info in zip(
            folders, filesystem.get_file_info([f"{folder}/run.parquet" for folder in folders]), strict=True
        )
        if info.is_file
    ]
    if not folders:
        raise FileNotFoundError(f"path: expected a run or a folder of runs, found none at {path!r}")
    files = {"runs": [f"{folder}/run.parquet" for folder in folders]}
    for table in GROWING:
        files[table] = [part[2] for folder in folders for part in part_files(filesystem, folder, table)]
    runs = _read(filesystem, files["runs"], RUNS)
    repeated = runs.loc[runs["run_id"].duplicated(), "run_id"].tolist()
    if repeated:
        raise ValueError(f"path: expected each run once, found several folders with {repeated[0]!r} at {path!r}")
    return Results(
        runs=runs,
        rounds=_read(filesystem, files["rounds"], ROUNDS),
        clients=_read(filesystem, files["clients"], CLIENTS),
    )


def _subfolders(filesystem: fs.FileSystem, root: str) -> list[str]:
    infos = filesystem.get_file_info(fs.FileSelector(root, allow_not_found=True))
    return sorted(info.path for info in infos if info.type == fs.FileType.Directory)


def _read(filesystem: fs.FileSystem, files: list[str], schema: pa.Schema) -> pd.DataFrame:
    tables = [pq.ParquetFile(file, filesystem=filesystem).read() for file in files]
    merged = pa.concat_tables([schema.empty_table(), *tables], promote_options="default")
    return merged.to_pandas()
