"""DRIVE: one bit an entry after a random rotation (Vargaftik et al., "DRIVE: One-bit Distributed Mean Estimation")."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from fedsim.compression.base import Compressor, check_end, read_array
from fedsim.compression.rotation import chunk_starts, chunk_sums, rotate, rotate_back, spread
from fedsim.settings import CompressorSettings


class DriveSettings(CompressorSettings):
    """Parameters of :class:`Drive`."""

    name: str = "drive"
    scale: Literal["unbiased", "least-squares"] = Field(
        "unbiased", description="unbiased for averages of many clients, or least error of a single one"
    )


class Drive(Compressor):
    """Signs of the rotated vector and one float32 scale a chunk (NeurIPS 2021).

    The scale of a chunk x with rotation R x is ``|x|_2^2 / |R x|_1`` (unbiased: squared error ``pi/2 - 1`` of |x|^2) or
    ``|R x|_1 / n`` (least squares: ``1 - 2/pi``). Body: scales (float32) | signs (bits).
    """

    name, id, summary = "drive", 66, "random rotation, signs and a scale: 1 bit an entry"
    Params = DriveSettings
    params: DriveSettings

    @property
    def unbiased(self) -> bool:
        return self.params.scale == "unbiased"

    def _encode(self, vector_d: np.ndarray, key: int) -> bytes:
        rotated_d = rotate(vector_d, key)
        norm1_c = chunk_sums(np.abs(rotated_d))
        if self.unbiased:
            norm2_c = chunk_sums(np.square(rotated_d, dtype=np.float64))
            scales_c = np.divide(norm2_c, norm1_c, out=np.zeros_like(norm1_c), where=norm1_c > 0)
        else:
            scales_c = norm1_c / np.diff(chunk_starts(vector_d.size))
        return scales_c.astype("<f4").tobytes() + np.packbits(rotated_d >= 0).tobytes()

    def _decode(self, body: memoryview, dimension: int, key: int) -> np.ndarray:
        chunks = chunk_starts(dimension).size - 1
        scales_c = read_array(body, "<f4", chunks, "drive body")
        check_end(body, 4 * chunks + -(-dimension // 8), "drive body")
        positive_d = np.unpackbits(np.frombuffer(body, np.uint8, offset=4 * chunks), count=dimension).astype(np.bool_)
        magnitude_d = spread(scales_c, dimension)
        return rotate_back(np.where(positive_d, magnitude_d, -magnitude_d), key)
