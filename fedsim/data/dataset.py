"""The interface of datasets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fedsim.data.images import Images, SubsetImages
from fedsim.errors import ConfigError
from fedsim.settings import DataSettings

_SPLIT_SEED = 0  # a hold-out or a subset is part of the dataset, not of a run
_TEST_SHARE = 0.2


@dataclass(frozen=True)
class Split:
    """Images and their labels.

    Attributes:
        images: the images, read only when their features are computed.
        labels: int64 class indices of shape ``(n,)``.
        read_column: reads a column of the dataset, whose values say whose sample each is (a writer, a camera), as int64
            of shape ``(n,)``; None where there are no columns.
    """

    images: Images
    labels: np.ndarray
    read_column: Callable[[str], np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> Split:
        """The samples at ``rows``, in that order."""
        read = self.read_column
        columns = None if read is None else lambda name: read(name)[rows]
        return Split(SubsetImages(self.images, rows), self.labels[rows], columns)

    def column(self, name: str) -> np.ndarray:
        """Values of a column, as int64 of shape ``(n,)``.

        Raises:
            ConfigError: the dataset has no such column.
        """
        if self.read_column is None:
            raise ConfigError(f"partition.column: found {name!r}, allowed: none, as this dataset has no columns")
        return self.read_column(name)

    def sample(self, count: int | None) -> Split:
        """``count`` samples, always the same ones, or all where there are no more or none are asked for."""
        if count is None or count >= len(self):
            return self
        return self.take(np.sort(np.random.default_rng(_SPLIT_SEED).permutation(len(self))[:count]))

    def hold_out(self) -> tuple[Split, Split]:
        """A fixed split into four fifths for training and one fifth, of each class, for testing."""
        order = np.random.default_rng(_SPLIT_SEED).permutation(len(self))
        order = order[np.argsort(self.labels[order], kind="stable")]
        test = np.zeros(len(self), bool)
        test[order[:: round(1 / _TEST_SHARE)]] = True
        return self.take(np.flatnonzero(~test)), self.take(np.flatnonzero(test))


class Dataset(ABC):
    """A labelled image dataset with a training and a test split.

    Making one is cheap; the splits are read when they are asked for, and images when their features are.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    #: Its keys in the ``data`` group.
    Params: ClassVar[type[DataSettings]] = DataSettings

    def __init__(self, params: Any) -> None:
        self.params = params

    @property
    @abstractmethod
    def classes(self) -> Sequence[str]:
        """Names of the classes."""

    @abstractmethod
    def train(self) -> Split:
        """The training split, which is partitioned over clients."""

    @abstractmethod
    def test(self) -> Split:
        """The test split, which the server evaluates on."""
