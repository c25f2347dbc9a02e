"""The interface of codecs: an index set to bytes and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np


class Codec(ABC):
    """Writes a set of indices below ``dimension`` as bytes.

    Decoding returns every encoded index (no false negative). An ``exact`` codec returns nothing else; an inexact one
    adds each other index with probability ``false_positive_rate``.
    """

    name: ClassVar[str]
    #: Identifies the codec on the wire; never reused.
    id: ClassVar[int]
    #: One line for listings.
    summary: ClassVar[str]
    #: Expected share of the other indices that decoding adds.
    false_positive_rate: ClassVar[float]

    @property
    def exact(self) -> bool:
        """Whether decoding returns exactly the encoded set."""
        return self.false_positive_rate == 0

    @abstractmethod
    def encode(self, indices: np.ndarray, dimension: int) -> bytes:
        """Encode ``indices``: strictly ascending uint64 of shape ``(n,)``, all below ``dimension``.

        Raises:
            ValueError: the indices are not of that form.
        """

    @abstractmethod
    def decode(self, data: bytes | memoryview, dimension: int) -> np.ndarray:
        """Decode to strictly ascending uint64 indices below ``dimension``.

        Takes memory in proportion to ``dimension`` and ``len(data)``, never to a number read from ``data``.

        Raises:
            PayloadError: ``data`` cannot come from :meth:`encode` with this dimension.
        """

    def encode_given(self, indices: np.ndarray, theta_d: np.ndarray, key: int) -> bytes:
        """:meth:`encode`, where the decoder knows the probabilities and the key of the reference mask.

        Args:
            indices: flips of the reference mask, as for :meth:`encode`.
            theta_d: probabilities of the reference mask, float32 of shape ``(dimension,)``.
            key: stream of its uniforms.
        """
        return self.encode(indices, theta_d.size)

    def decode_given(self, data: bytes | memoryview, theta_d: np.ndarray, key: int) -> np.ndarray:
        """:meth:`decode` of what :meth:`encode_given` wrote with the same probabilities and key."""
        return self.decode(data, theta_d.size)

    def bits_given(self, indices: np.ndarray, theta_d: np.ndarray, key: int) -> np.ndarray:
        """About how many bits :meth:`encode_given` spends on each of the indices, float64 of shape ``(n,)``, above 0.

        By default the same for all; only ratios matter.
        """
        return np.ones(indices.size)


def check_indices(indices: np.ndarray, dimension: int) -> None:
    """Raise ValueError unless ``indices`` are strictly ascending uint64 below ``dimension``."""
    if indices.dtype != np.uint64 or indices.ndim != 1:
        raise ValueError(f"indices: expected uint64 of shape (n,), found {indices.dtype} {indices.shape}")
    if indices.size and (int(indices[-1]) >= dimension or not bool(np.all(indices[1:] > indices[:-1]))):
        raise ValueError(f"indices: expected strictly ascending values below {dimension}")
