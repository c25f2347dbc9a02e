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
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from fedsim.data.dataset import Dataset, Split
from fedsim.data.folder import FolderSettings, required_path
from fedsim.data.images import Images, file_digest
from fedsim.errors import DataError

_TEST_NAMES = ("test", "validation", "valid", "val")
_IMAGE_NAMES, _LABEL_NAMES = ("image", "img"), ("label", "labels", "fine_label", "class")
_MAX_CLASSES = 100_000
_SHOWN_CLASSES = 10  # in a message
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
            path for path in sorted(self._root.glob("*.parquet")) if not path.name.startswith(_TEST_NAMES)
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
        return self._column("data.label_column", self.params.label_column, _LABEL_NAMES)

    def _column(self, key: str, given: str | None, usual: Sequence[str]) -> str:
        for name in [given] if given else usual:
            if name in self._schema.names:
                return name
        raise DataError(
            f"{key}: found {given or 'none'}, allowed: a column of {self._train_files[0]}: "
            + ", ".join(self._schema.names)
        )

    @cached_property
    def classes(self) -> Sequence[str]:
        """Names of the classes, in the order of the labels."""
        labels = self._labels_of(self._train_files)
        if not pa.types.is_integer(labels.type):
            return sorted(set(labels.cast(pa.string()).to_pylist()))
        count = int(pc.max(labels).as_py()) + 1
        if count > _MAX_CLASSES:
            row = pc.index(labels, count - 1).as_py()
            raise DataError(
                f"{self._label_column}: found label {count - 1} in row {row} of {self._train_files[0].parent}, "
                f"allowed: 0 to {_MAX_CLASSES - 1:,}"
            )
        names = self._named_classes()
        if names and len(names) < count:
            raise DataError(
                f"{self._label_column}: found label {count - 1}, allowed: 0 to {len(names) - 1}, by class names"
            )
        return names or [str(index) for index in range(count)]

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
        for name in _TEST_NAMES:
            if test_files := self._find(name):
                return self._read(self._train_files), self._read(test_files)
        return self._read(self._train_files).hold_out()

    def _read(self, files: list[Path]) -> Split:
        column = self._labels_of(files)
        if pa.types.is_integer(column.type):
            labels = column.to_numpy(zero_copy_only=False).astype(np.int64)
            bad = np.flatnonzero((labels < 0) | (labels >= len(self.classes)))
        else:
            labels = (
                pc.index_in(column.cast(pa.string()), pa.array(self.classes)).fill_null(-1).to_numpy().astype(np.int64)
            )
            bad = np.flatnonzero(labels < 0)
        if bad.size:
            whole = pa.types.is_integer(column.type)
            allowed = f"0 to {len(self.classes) - 1}" if whole else ", ".join(map(str, self.classes[:_SHOWN_CLASSES]))
            raise DataError(
                f"{self._label_column}: found {column[int(bad[0])].as_py()!r} in row {bad[0]} of {files[0].parent}, "
                f"allowed: {allowed}"
            )
        return Split(_ParquetImages(files, self._image_column), labels, lambda name: self._groups(files, name))

    def _groups(self, files: list[Path], name: str) -> np.ndarray:
        values = self._column_of(files, self._column("partition.column", name, ()))
        texts = np.array(values.cast(pa.string()).to_pylist())
        return np.unique(texts, return_inverse=True)[1].astype(np.int64)

    def _labels_of(self, files: list[Path]) -> pa.ChunkedArray:
        labels = self._column_of(files, self._label_column)
        kind = labels.type.value_type if pa.types.is_dictionary(labels.type) else labels.type
        if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise DataError(
                f"{self._label_column}: found labels of the type {kind} in {files[0]}, allowed: whole numbers or text"
            )
        return labels

    def _column_of(self, files: list[Path], name: str) -> pa.ChunkedArray:
        try:
            column = pa.concat_tables([pq.read_table(path, columns=[name]) for path in files])[name]
        except (pa.ArrowException, KeyError) as error:
            raise DataError(
                f"data.path: expected a column {name!r} in each of {files[0]} ..., found {error}"
            ) from error
        if not len(column):
            raise DataError(f"data.path: found no rows in {files[0]} and the files beside it, allowed: at least one")
        if column.null_count:
            raise DataError(f"{name}: found {column.null_count} empty values in {files[0].parent}, allowed: none")
        return column


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
