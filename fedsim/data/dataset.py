"""What a dataset is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedsim.config import DataConfig


@dataclass(frozen=True)
class Split:
    """Images and their labels.

    Attributes:
        images: uint8 of shape ``(n, height, width, channels)``, 1 or 3 channels.
        labels: int64 class indices of shape ``(n,)``.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> Split:
        """The samples at ``indices``, in that order."""
        return Split(self.images[indices], self.labels[indices])


class Dataset(ABC):
    """A labelled image dataset with a training and a test split. Labels are cheap; images may be read lazily."""

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
