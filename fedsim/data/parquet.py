"""Parquet files with encoded images, as Hugging Face datasets store them."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from fedsim.data.columns import (
    LABEL_NAMES,
    TEST_NAMES,
    check_labels,
    check_whole,
    choose_column,
    class_indices,
    class_names,
    group_indices,
)
from fedsim.data.dataset import Dataset, Split
from fedsim.data.folder import FolderSettings, required_path
from fedsim.data.images import Images, file_digest
from fedsim.errors import DataError

_IMAGE_NAMES = ("image", "img")
_LAYOUT = "train*.parquet and test*.parquet, there or in a folder data, with columns image and label"


class ParquetSettings(FolderSettings):
    """Keys of :class:`ParquetDataset`."""

    image_column: str | None = Field(None, description="column of the images; image or img when not given")
    label_column: str | None = Field(None, description="column of the labels; label, ... when not given")


class ParquetDataset(Dataset):
    """Columns ``image`` (encoded bytes, or a struct with ``bytes``) and ``label`` (integer or text).

    Class names come from the Hugging Face metadata, else from ``classes.txt`` beside the files, else from the labels.
    Without a test file, a fifth is held out.
    """

    name = "parquet"
    summary = "data.path/train*.parquet and test*.parquet in the Hugging Face layout: image bytes or struct, label"

    Params = ParquetSettings

    def __init__(self, params: ParquetSettings) -> None:
        super().__init__(params)
        self._root = required_path(params.path, self.name, _LAYOUT)

    @cached_property
    def _train_files(self) -> list[Path]:
        files = self._find("train") or [
            path for path in sorted(self._root.glob("*.parquet")) if not path.name.startswith(TEST_NAMES)
        ]
        if not files:
            raise DataError(f"data.path: looked for Parquet files in {self._root}, found none; put there: {_LAYOUT}")
        return files

    def _find(self, part: str) -> list[Path]:
        for pattern in (f"{part}*.parquet", f"data/{part}*.parquet", f"{part}/*.parquet"):
            if files := sorted(self._root.glob(pattern)):
                return files
        return []

    @cached_property
    def _schema(self) -> pa.Schema:
        return _open(self._train_files[0]).schema_arrow

    @cached_property
    def _image_column(self) -> str:
        return self._column("data.image_column", self.params.image_column, _IMAGE_NAMES)

    @cached_property
    def _label_column(self) -> str:
        return self._column("data.label_column", self.params.label_column, LABEL_NAMES)

    def _column(self, key: str, given: str | None, usual: Sequence[str]) -> str:
        return choose_column(key, given, usual, self._schema.names, self._train_files[0])

    @cached_property
    def classes(self) -> Sequence[str]:
        """Names of the classes, in the order of the labels."""
        labels = self._labels_of(self._train_files)
        named = self._named_classes() if pa.types.is_integer(labels.type) else []
        return class_names(labels, named, self._label_column, self._train_files[0].parent)

    def _named_classes(self) -> list[str]:
        try:
            metadata = json.loads((self._schema.metadata or {}).get(b"huggingface", b"{}"))
            names = metadata.get("info", {}).get("features", {}).get(self._label_column, {}).get("names")
        except (ValueError, AttributeError, RecursionError) as error:
            raise DataError(
                f"data.path: expected Hugging Face metadata in {self._train_files[0]}, found none that can be read "
                f"({error})"
            ) from error
        if names:
            return list(map(str, names))
        text = self._root / "classes.txt"
        return [line.strip() for line in text.read_text().splitlines() if line.strip()] if text.exists() else []

    def train(self) -> Split:
        return self._splits[0]

    def test(self) -> Split:
        return self._splits[1]

    @cached_property
    def _splits(self) -> tuple[Split, Split]:
        for name in TEST_NAMES:
            if test_files := self._find(name):
                return self._read(self._train_files), self._read(test_files)
        return self._read(self._train_files).hold_out()

    def _read(self, files: list[Path]) -> Split:
        labels = class_indices(self._labels_of(files), self.classes, self._label_column, files[0].parent)
        return Split(_ParquetImages(files, self._image_column), labels, lambda name: self._groups(files, name))

    def _groups(self, files: list[Path], name: str) -> np.ndarray:
        return group_indices(self._column_of(files, self._column("partition.column", name, ())))

    def _labels_of(self, files: list[Path]) -> pa.ChunkedArray:
        return check_labels(self._column_of(files, self._label_column), self._label_column, files[0])

    def _column_of(self, files: list[Path], name: str) -> pa.ChunkedArray:
        try:
            column = pa.concat_tables([pq.read_table(path, columns=[name]) for path in files])[name]
        except (pa.ArrowException, KeyError) as error:
            raise DataError(
                f"data.path: expected a column {name!r} in each of {files[0]} ..., found {error}"
            ) from error
        if not len(column):
            raise DataError(f"data.path: found no rows in {files[0]} and the files beside it, allowed: at least one")
        return check_whole(column, name, files[0].parent)


class _ParquetImages(Images):
    """Images by row over several files; whole row groups are read, the last few are kept."""

    _kept = 2

    def __init__(self, files: list[Path], column: str) -> None:
        self._files, self._column = files, column
        self._groups: list[tuple[int, int]] = []  # (file, row group)
        starts = [0]
        for index, path in enumerate(files):
            metadata = _open(path).metadata
            for group in range(metadata.num_row_groups):
                self._groups.append((index, group))
                starts.append(starts[-1] + metadata.row_group(group).num_rows)
        self._starts = starts
        self._cache: OrderedDict[int, list[Any]] = OrderedDict()

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, indices: np.ndarray) -> Sequence[np.ndarray | bytes]:
        raw: list[bytes] = []
        for index in indices.tolist():
            group = bisect_right(self._starts, index) - 1
            value = self._rows(group)[index - self._starts[group]]
            value = value.get("bytes") if isinstance(value, dict) else value
            raw.append(value if isinstance(value, bytes) else b"")
        return raw

    def _rows(self, group: int) -> list[Any]:
        if group not in self._cache:
            file, row_group = self._groups[group]
            table = _open(self._files[file]).read_row_group(row_group, columns=[self._column])
            self._cache[group] = table[self._column].to_pylist()
            while len(self._cache) > self._kept:
                self._cache.popitem(last=False)
        self._cache.move_to_end(group)
        return self._cache[group]

    def label(self, index: int) -> str:
        group = bisect_right(self._starts, index) - 1
        file = self._groups[group][0]
        first = next(number for number, (owner, _) in enumerate(self._groups) if owner == file)
        return f"{self._files[file]} row {index - self._starts[first]}"

    def fingerprint(self) -> str:
        return file_digest(str(self._files[0].parent), [path.name for path in self._files])


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"data.path: expected a Parquet file at {path}, found {error}") from error
