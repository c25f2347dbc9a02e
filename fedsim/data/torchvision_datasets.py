"""The datasets of the paper, read by torchvision in its own layout."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from fedsim.data.dataset import Dataset, Split
from fedsim.data.images import ArrayImages, FileImages
from fedsim.errors import DataError
from fedsim.settings import DataSettings, no_result

_DEFAULT_ROOT = "~/.cache/fedsim/datasets"


class TorchvisionSettings(DataSettings):
    """Keys of the datasets that torchvision reads."""

    path: str | None = Field(
        None,
        description="folder of the dataset; ~/.cache/fedsim/datasets when not given",
        json_schema_extra=no_result,  # the name says what is there
    )
    download: bool = Field(
        False, description="let torchvision download the dataset when it is not there", json_schema_extra=no_result
    )


class TorchvisionDataset(Dataset):
    """Base: the class of :mod:`torchvision.datasets` called :attr:`source`, below ``data.path``."""

    Params = TorchvisionSettings
    source: ClassVar[str]
    layout: ClassVar[str]  # what lies below data.path

    @cached_property
    def _train(self) -> Any:
        return self._load(train=True)

    @cached_property
    def _test(self) -> Any:
        return self._load(train=False)

    def _load(self, **arguments: Any) -> Any:
        from fedsim.data.torchvision_import import import_torchvision  # slow to import, and only needed here

        root = Path(self.params.path or _DEFAULT_ROOT).expanduser()
        source = getattr(import_torchvision().datasets, self.source)
        if self.params.download:
            root.mkdir(parents=True, exist_ok=True)
            arguments["download"] = True
        try:
            return source(str(root), **arguments)
        except Exception as error:  # by source: RuntimeError, FileNotFoundError, URLError, ValueError, ...
            hint = "" if self.params.download else ", or set data.download=true where there is a network"
            raise DataError(
                f"data.path: looked for {self.name} in {root}, found {type(error).__name__}: {error}; "
                f"put there: {self.layout}{hint}"
            ) from error

    @property
    def classes(self) -> Sequence[str]:
        names: Sequence[str] = self._train.classes
        return names

    def train(self) -> Split:
        return self._split(self._train)

    def test(self) -> Split:
        return self._split(self._test)

    def _split(self, source: Any) -> Split:
        return Split(ArrayImages(np.asarray(source.data)), np.asarray(source.targets, np.int64))


class _BySplitName(TorchvisionDataset):
    """Sources that take ``split`` and list their files."""

    files: ClassVar[tuple[str, str]]  # attributes with paths and labels; the labels are in the paths' when empty

    def _load(self, **arguments: Any) -> Any:
        return super()._load(split="train" if arguments["train"] else "test")

    def _split(self, source: Any) -> Split:
        paths, labels = (getattr(source, name) for name in self.files)
        return _file_split(paths, labels)


def _file_split(paths: Sequence[Any], labels: Sequence[int]) -> Split:
    root = os.path.commonpath([os.path.dirname(path) for path in paths])
    return Split(FileImages(root, [os.path.relpath(path, root) for path in paths]), np.asarray(labels, np.int64))


class Cifar10(TorchvisionDataset):
    """CIFAR-10 (Krizhevsky 2009): 60,000 images of 32 x 32."""

    name, source, layout = "cifar10", "CIFAR10", "cifar-10-batches-py/data_batch_1 ..."
    summary = "60,000 images of 32x32, 10 classes"


class Cifar100(TorchvisionDataset):
    """CIFAR-100 (Krizhevsky 2009): 60,000 images of 32 x 32."""

    name, source, layout = "cifar100", "CIFAR100", "cifar-100-python/train, test, meta"
    summary = "60,000 images of 32x32, 100 classes"


class Svhn(_BySplitName):
    """Street View House Numbers (Netzer et al. 2011), cropped digits of 32 x 32."""

    name, source, layout = "svhn", "SVHN", "train_32x32.mat and test_32x32.mat"
    summary = "99,289 house number digits of 32x32, 10 classes"

    @property
    def classes(self) -> Sequence[str]:
        return [str(digit) for digit in range(10)]

    def _split(self, source: Any) -> Split:
        return Split(ArrayImages(source.data.transpose(0, 2, 3, 1)), np.asarray(source.labels, np.int64))


class Emnist(TorchvisionDataset):
    """EMNIST, balanced split (Cohen et al. 2017): 131,600 characters of 28 x 28 in 47 classes."""

    name, source, layout = "emnist", "EMNIST", "EMNIST/raw/emnist-balanced-train-images-idx3-ubyte ..."
    summary = "131,600 grey characters of 28x28, 47 classes (the balanced split)"

    def _load(self, **arguments: Any) -> Any:
        return super()._load(split="balanced", **arguments)

    def _split(self, source: Any) -> Split:
        return Split(ArrayImages(source.data.numpy().transpose(0, 2, 1)), source.targets.numpy().astype(np.int64))


class FashionMnist(TorchvisionDataset):
    """Fashion-MNIST (Xiao et al. 2017): 70,000 images of 28 x 28."""

    name, source, layout = "fashion-mnist", "FashionMNIST", "FashionMNIST/raw/train-images-idx3-ubyte ..."
    summary = "70,000 grey images of clothes of 28x28, 10 classes"


class EuroSat(TorchvisionDataset):
    """EuroSAT, RGB (Helber et al. 2019): 27,000 satellite images of 64 x 64; a fifth is held out for testing."""

    name, source, layout = "eurosat", "EuroSAT", "eurosat/2750/CLASS/*.jpg"
    summary = "27,000 satellite images of 64x64, 10 classes; a fifth held out"

    def _load(self, **arguments: Any) -> Any:
        return super()._load(**{key: value for key, value in arguments.items() if key != "train"})

    @cached_property
    def _held_out(self) -> tuple[Split, Split]:
        paths, labels = zip(*self._train.samples, strict=True)
        return _file_split(paths, labels).hold_out()

    def train(self) -> Split:
        return self._held_out[0]

    def test(self) -> Split:
        return self._held_out[1]


class Food101(_BySplitName):
    """Food-101 (Bossard et al. 2014): 101,000 photographs."""

    name, source, layout = "food101", "Food101", "food-101/meta/train.json, test.json and food-101/images/CLASS/*.jpg"
    summary = "101,000 photographs of dishes, 101 classes"
    files = ("_image_files", "_labels")


class Cars196(_BySplitName):
    """Stanford Cars (Krause et al. 2013): 16,185 photographs. Its original address is gone: it cannot be downloaded."""

    name, source = "cars196", "StanfordCars"
    layout = "stanford_cars/devkit, cars_train, cars_test and cars_test_annos_withlabels.mat (no longer downloadable)"
    summary = "16,185 photographs of cars, 196 classes"

    def _split(self, source: Any) -> Split:
        paths, labels = zip(*source._samples, strict=True)
        return _file_split(paths, labels)
