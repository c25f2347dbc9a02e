"""No compression: every value as a float."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from deltamask.payload import Buffer
from fedsim.compression.base import Compressor, check_end
from fedsim.settings import CompressorSettings


class NoneSettings(CompressorSettings):
    """Parameters of :class:`NoCompression`."""

    name: str = "none"
    dtype: Literal["float32", "float16"] = Field("float32", description="float16 halves the bytes and rounds")


class NoCompression(Compressor):
    """Each value as a little-endian float. float16 rounds to nearest, and values beyond its range to its largest."""

    name, id, summary = "none", 64, "every value as a float32 or float16"
    Params = NoneSettings
    params: NoneSettings

    @property
    def unbiased(self) -> bool:
        return self.params.dtype == "float32"

    def _encode(self, vector_d: np.ndarray, key: int) -> Buffer:
        if self.params.dtype == "float16":
            return to_floats(vector_d, self.params.dtype)
        return np.ascontiguousarray(vector_d, "<f4").view(np.uint8).data  # framing makes the one copy

    def _decode(self, body: memoryview, dimension: int, key: int) -> np.ndarray:
        check_end(body, dimension * np.dtype(self.params.dtype).itemsize, "none body")
        return np.frombuffer(body, np.dtype(self.params.dtype).newbyteorder("<")).astype(np.float32, copy=False)


def to_floats(values: np.ndarray, dtype: str) -> bytes:
    """Values as little-endian floats; those beyond the range of ``dtype`` as its largest."""
    largest = float(np.finfo(dtype).max)
    return np.clip(values, -largest, largest).astype(np.dtype(dtype).newbyteorder("<")).tobytes()
