"""Datasets of the Hugging Face hub and of folders in its formats, by the package datasets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

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
from fedsim.data.images import Images, digest
from fedsim.errors import ConfigError, DataError
from fedsim.settings import DataSettings, local_folder

_IMAGE_NAMES = ("image", "img")
_SAVED = ("dataset_dict.json", "state.json")  # files of a folder that save_to_disk wrote


class HuggingFaceSettings(DataSettings):
    """Keys of :class:`HuggingFace`; of a local folder, the content names the run."""

    subset: str | None = Field(None, description="configuration of a dataset that has several")
    revision: str | None = Field(None, description="commit, tag or branch of the dataset's repository on the hub")
    train_split: str = Field("train", description="split for training")
    test_split: str | None = Field(
        None, description="split for testing; test, validation, ... when not given, or a fifth is held out"
    )
    image_column: str | None = Field(
        None, description="column of the images; image, img or one of the type Image when not given"
    )
    label_column: str | None = Field(None, description="column of the labels; label, ... when not given")

    @model_validator(mode="after")
    def _revisions_are_the_hub_s(self) -> HuggingFaceSettings:
        if self.revision is not None and self.paths():
            raise ValueError(
                f"revision: found {self.revision!r}, allowed: none, as {self.name} is a folder of this machine"
            )
        return self

    def paths(self) -> dict[str, str]:
        """The local folder, if it is one, under the key that names it."""
        folder = local_folder(self.name.partition(":")[2])
        return super().paths() | ({"name": folder} if folder else {})


class HuggingFace(Dataset):
    """A repository of the hub, a folder of files in its layouts, or one that ``save_to_disk`` wrote.

    Class names come from ``ClassLabel``, else from the labels. Without a test split, a fifth is held out. Without a
    network, or with ``HF_HUB_OFFLINE=1``, what was fetched before is read from the cache of datasets.
    """

    name = "hf:NAME"
    summary = "a dataset of the Hugging Face hub or of a local folder in its formats, e.g. hf:uoft-cs/cifar10"
    Params = HuggingFaceSettings

    @cached_property
    def _splits(self) -> Any:
        """A ``datasets.Dataset`` by the name of its split."""
        params, name = self.params, self.params.name.partition(":")[2]
        try:
            import datasets
        except ImportError as error:
            raise ConfigError(
                f'data.name: found {params.name!r}, allowed: with the package datasets (pip install ".[hf]"); {error}'
            ) from error
        folder = local_folder(name)
        try:
            if folder is None or not any((Path(folder) / file).exists() for file in _SAVED):
                return datasets.load_dataset(folder or name, params.subset, revision=params.revision)
            saved = datasets.load_from_disk(folder)
        except Exception as error:  # by cause: ConnectionError, DatasetNotFoundError, ValueError, RuntimeError, ...
            raise DataError(
                f"data.name: looked for {name!r} as a local folder, in the cache of datasets and on the hub, found "
                f"{type(error).__name__}: {error}; allowed: a folder, a dataset that was fetched before, or one of "
                "the hub where it can be reached"
            ) from error
        if params.subset is not None:
            raise DataError(f"data.subset: found {params.subset!r}, allowed: none, as save_to_disk wrote {folder}")
        return saved if isinstance(saved, datasets.DatasetDict) else {params.train_split: saved}

    def _rows(self, key: str, name: str) -> Any:
        if name not in self._splits:
            raise DataError(f"data.{key}: found {name!r}, allowed: {', '.join(map(str, self._splits))}")
        if not len(self._splits[name]):
            raise DataError(f"data.{key}: found no rows in {name} of {self.params.name}, allowed: at least one")
        return self._splits[name]

    @property
    def _train(self) -> Any:
        return self._rows("train_split", self.params.train_split)

    @property
    def _test_split(self) -> str | None:
        if self.params.test_split is not None:
            return str(self.params.test_split)
        return next((name for name in TEST_NAMES if name in self._splits and name != self.params.train_split), None)

    @cached_property
    def _label_column(self) -> str:
        columns = self._train.column_names
        return choose_column("data.label_column", self.params.label_column, LABEL_NAMES, columns, self.params.name)

    @cached_property
    def _image_column(self) -> str:
        kinds = {name: type(feature).__name__ for name, feature in self._train.features.items()}
        usual = [*_IMAGE_NAMES, *(name for name, kind in kinds.items() if kind == "Image")]
        return choose_column("data.image_column", self.params.image_column, usual, list(kinds), self.params.name)

    @cached_property
    def classes(self) -> Sequence[str]:
        """Names of the classes, in the order of the labels."""
        named = getattr(self._train.features[self._label_column], "names", None) or []
        place = f"{self.params.train_split} of {self.params.name}"
        return class_names(self._labels_of(self._train, place), named, self._label_column, place)

    def train(self) -> Split:
        return self._held_out[0] if self._test_split is None else self._read("train_split", self.params.train_split)

    def test(self) -> Split:
        return self._held_out[1] if self._test_split is None else self._read("test_split", self._test_split)

    @cached_property
    def _held_out(self) -> tuple[Split, Split]:
        return self._read("train_split", self.params.train_split).hold_out()

    def _read(self, key: str, name: str) -> Split:
        rows, place = self._rows(key, name), f"{name} of {self.params.name}"
        labels = class_indices(self._labels_of(rows, place), self.classes, self._label_column, place)
        images = _HuggingFaceImages(rows, self._image_column, name)

        def groups(column: str) -> np.ndarray:
            return group_indices(_column_of(rows, "partition.column", column, place))

        return Split(images, labels, groups)

    def _labels_of(self, rows: Any, place: str) -> pa.ChunkedArray:
        labels = _column_of(rows, "data.label_column", self._label_column, place)
        return check_labels(labels, self._label_column, place)


def _column_of(rows: Any, key: str, name: str, place: str) -> pa.ChunkedArray:
    choose_column(key, name, (), rows.column_names, place)
    values = rows.select_columns([name]).with_format("arrow")[:][name]  # follows a selection of rows, too
    return check_whole(values, name, place)


class _HuggingFaceImages(Images):
    """Images as they are stored: the decoder of all datasets reads them, and reports those that it cannot."""

    def __init__(self, rows: Any, column: str, name: str) -> None:
        import datasets

        self._column, self._name = column, name
        self._fingerprint = rows._fingerprint  # of the repository's commit, or of the files and their times
        try:
            self._rows = rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
        except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
            raise DataError(f"data.image_column: found {column!r}, allowed: a column of images ({error})") from error

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, indices: np.ndarray) -> Sequence[np.ndarray | bytes]:
        return [_encoded(value) for value in self._rows[indices.tolist()][self._column]]

    def label(self, index: int) -> str:
        path = (self._rows[index][self._column] or {}).get("path")
        return f"{self._name} row {index}" + (f" ({path})" if path else "")

    def fingerprint(self) -> str:
        return digest(f"{self._fingerprint} {self._column} {len(self)}".encode())


def _encoded(value: Any) -> bytes:
    """The bytes of an image file; none where there is no such file, as for any image that cannot be decoded."""
    stored: bytes | None = value and value["bytes"]
    if stored is not None or not (value and value["path"]):
        return stored or b""
    try:
        return Path(value["path"]).read_bytes()
    except OSError:
        return b""
