"""One bit for every index: what a mask costs without any coding."""

from __future__ import annotations

import numpy as np

from deltamask.codecs.base import Codec, check_indices
from deltamask.payload import PayloadError


class Bitmap(Codec):
    """The indicator bits as they are, 1 bit a parameter whatever the set. Body: ``ceil(dimension / 8)`` bytes."""

    name, id, summary = "bitmap", 7, "one bit for every parameter: no false flips"
    false_positive_rate = 0.0

    def encode(self, indices: np.ndarray, dimension: int) -> bytes:
        check_indices(indices, dimension)
        bits_d = np.zeros(dimension, np.bool_)
        bits_d[indices] = True
        return np.packbits(bits_d).tobytes()

    def decode(self, data: bytes | memoryview, dimension: int) -> np.ndarray:
        expected = -(-dimension // 8)
        if len(data) != expected:
            raise PayloadError(f"bitmap body: expected {expected} bytes, found {len(data)}")
        bits_d = np.unpackbits(np.frombuffer(data, np.uint8))
        if bits_d[dimension:].any():
            raise PayloadError("bitmap body: expected zeros after the last index, found others")
        return np.flatnonzero(bits_d).astype(np.uint64)
