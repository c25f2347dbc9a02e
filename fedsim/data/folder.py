"""A folder of image files, one folder a class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import Field

from fedsim.data.dataset import Dataset, Split
from fedsim.data.images import FileImages
from fedsim.errors import DataError
from fedsim.settings import DataSettings, by_content

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_TEST_NAMES = ("test", "validation", "valid", "val")
_LAYOUT = "PATH/train/CLASS/*.png and PATH/test/CLASS/*.png, or PATH/CLASS/*.png, of which a fifth is held out"


class FolderSettings(DataSettings):
    """Keys of datasets that are read from a folder."""

    path: str | None = Field(None, description="folder of the dataset", json_schema_extra=by_content)


class ImageFolder(Dataset):
    """Image files by class, with folders ``train`` and ``test``, or without, then a fifth is held out for testing."""

    name = "image-folder"
    summary = "data.path/train/CLASS/* and data.path/test/CLASS/*, or data.path/CLASS/* with a fifth held out"

    Params = FolderSettings

    def __init__(self, params: FolderSettings) -> None:
        super().__init__(params)
        self._root = required_path(params.path, self.name, _LAYOUT)

    @cached_property
    def _test_folder(self) -> Path | None:
        if not (self._root / "train").is_dir():
            return None
        for name in _TEST_NAMES:
            if (self._root / name).is_dir():
                return self._root / name
        raise DataError(f"data.path: looked for a folder {' or '.join(_TEST_NAMES)} in {self._root}, found none")

    @cached_property
    def classes(self) -> Sequence[str]:
        folder = self._root / "train" if self._test_folder else self._root
        classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        if not classes:
            raise DataError(f"data.path: looked for a folder a class in {folder}, found none; put there: {_LAYOUT}")
        return classes

    def train(self) -> Split:
        return self._read(self._root / "train") if self._test_folder else self._held_out[0]

    def test(self) -> Split:
        return self._read(self._test_folder) if self._test_folder else self._held_out[1]

    @cached_property
    def _held_out(self) -> tuple[Split, Split]:
        return self._read(self._root).hold_out()

    def _read(self, folder: Path) -> Split:
        found = {entry.name for entry in os.scandir(folder) if entry.is_dir()}
        if unknown := sorted(found - set(self.classes)):
            raise DataError(f"data.path: found class {unknown[0]!r} in {folder}, allowed: those of the training split")
        paths, labels = [], []
        for label, name in enumerate(self.classes):
            files = sorted(
                os.path.relpath(os.path.join(base, file), folder)
                for base, _, names in os.walk(folder / name)
                for file in names
                if os.path.splitext(file)[1].lower() in _SUFFIXES
            )
            for file in files:
                if not os.path.isfile(folder / file):
                    raise DataError(
                        f"data.path: found {folder / file}, no file and no link to one, allowed: image files"
                    )
            paths += files
            labels += [label] * len(files)
        if not paths:
            raise DataError(f"data.path: looked for images in {folder}/CLASS, found none; put there: {_LAYOUT}")
        return Split(FileImages(folder, paths), np.array(labels, np.int64))


def required_path(path: str | None, dataset: str, layout: str) -> Path:
    """``data.path`` as an existing folder.

    Raises:
        DataError: it is not given or not there.
    """
    if path is None:
        raise DataError(f"data.path: found none, allowed: a folder, since data.name is {dataset}; put there: {layout}")
    root = Path(path).expanduser()
    if not root.is_dir():
        raise DataError(f"data.path: looked for a folder at {root}, found none; put there: {layout}")
    return root
