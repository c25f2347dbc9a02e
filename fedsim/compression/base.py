"""The interface of gradient compressors: a dense vector to bytes and back to an estimate of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from deltamask import payload
from deltamask.payload import Buffer, PayloadError
from fedsim.settings import CompressorSettings


class Compressor(ABC):
    """Writes float32 vectors of shape ``(d,)`` as bytes.

    Client and server share a 64-bit ``key``, from which both derive rotations and sub-samples; a stochastic
    compressor rounds with it too, so that a message is a function of the vector and the key.

    Args:
        params: an instance of :attr:`Params`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    #: Identifies the compressor on the wire, 64 or more; never reused.
    id: ClassVar[int]
    #: Its keys in the ``method.compressor`` group.
    Params: ClassVar[type[CompressorSettings]] = CompressorSettings

    def __init__(self, params: Any) -> None:
        self.params = params

    @property
    @abstractmethod
    def unbiased(self) -> bool:
        """Whether the estimate's mean over keys is the vector."""

    def encode(self, vector_d: np.ndarray, key: int) -> bytes:
        """The framed message.

        Raises:
            ValueError: not a finite float32 vector of at least one entry.
        """
        if vector_d.dtype != np.float32 or vector_d.ndim != 1 or not vector_d.size:
            raise ValueError(f"vector_d: expected float32 of shape (d,), found {vector_d.dtype} {vector_d.shape}")
        if not np.isfinite(vector_d).all():
            raise ValueError("vector_d: expected finite values, found others (has training diverged?)")
        return payload.pack(self.id, vector_d.size, self._encode(vector_d, key), payload.context(key))

    def decode(self, data: bytes, dimension: int, key: int) -> np.ndarray:
        """The estimate, float32 of shape ``(dimension,)``.

        Raises:
            PayloadError: ``data`` cannot come from :meth:`encode` with this dimension.
        """
        body = payload.unpack(data, self.id, dimension, payload.context(key))
        with np.errstate(over="ignore", invalid="ignore"):  # of scales that are none; what comes of them is refused
            vector_d = self._decode(body, dimension, key)
        if not np.isfinite(vector_d).all():
            raise PayloadError(f"{self.name}: expected finite values, found others")
        return vector_d

    @abstractmethod
    def _encode(self, vector_d: np.ndarray, key: int) -> Buffer:
        """The body of a checked vector."""

    @abstractmethod
    def _decode(self, body: memoryview, dimension: int, key: int) -> np.ndarray:
        """The estimate from a body. Memory is in proportion to ``dimension`` and ``len(body)``."""


def read_array(body: memoryview, dtype: str, count: int, what: str, offset: int = 0) -> np.ndarray:
    """``count`` little-endian values from ``offset`` on.

    Raises:
        PayloadError: the body is too short.
    """
    needed = offset + count * np.dtype(dtype).itemsize
    if len(body) < needed:
        raise PayloadError(f"{what}: expected at least {needed} bytes, found {len(body)}")
    return np.frombuffer(body, dtype, count, offset)


def check_end(body: memoryview, expected: int, what: str) -> None:
    """Raise PayloadError unless the body has ``expected`` bytes."""
    if len(body) != expected:
        raise PayloadError(f"{what}: expected {expected} bytes, found {len(body)}")
