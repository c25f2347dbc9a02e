"""What a dataset is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedsim.config import DataConfig
from fedsim.data.images import Images, SubsetImages

_SPLIT_SEED = 0  # a hold-out or a subset is part of the dataset, not of a run
_TEST_SHARE = 0.2


@dataclass(frozen=True)
class Split:
    """Images and their labels.

    Attributes:
        images: the images, read only when their features are computed.
        labels: int64 class indices of shape ``(n,)``.
        groups: int64 of shape ``(n,)``, whose sample it is by nature (a writer, a camera); None when unknown.
    """

    images: Images
    labels: np.ndarray
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> Split:
        """The samples at ``rows``, in that order."""
        groups = None if self.groups is None else self.groups[rows]
        return Split(SubsetImages(self.images, rows), self.labels[rows], groups)

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

    def __init__(self, config: DataConfig) -> None:
        self.config = config

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
