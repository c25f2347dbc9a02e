"""QSGD: stochastic rounding to a few levels, Elias-coded (Alistarh et al., NeurIPS 2017)."""

from __future__ import annotations

import struct

import numpy as np
from pydantic import Field

from deltamask import stream_key, uniform_bits
from deltamask.parallel import over_indices
from deltamask.payload import PayloadError
from fedsim.compression.base import Compressor, read_array
from fedsim.compression.elias import read_sparse, write_sparse
from fedsim.settings import CompressorSettings

_COUNT = struct.Struct("<I")


class QsgdSettings(CompressorSettings):
    """Parameters of :class:`Qsgd`; the defaults are those of the paper's 4-bit experiments."""

    name: str = "qsgd"
    levels: int = Field(16, ge=1, le=65_536, description="levels s between 0 and the bucket's norm")
    bucket: int = Field(512, ge=1, le=2**30, description="entries that share a norm")


class Qsgd(Compressor):
    """Each entry is rounded to one of the levels ``0, 1/s .. 1`` of its bucket's norm, up or down at random, unbiased.

    Body: number of non-zero levels (uint32) | norms (float32) | gaps, signs and levels as Elias omega codes.
    """

    name, id, summary = "qsgd", 65, "stochastic rounding to levels of a bucket's norm, Elias-coded"
    Params = QsgdSettings
    params: QsgdSettings

    @property
    def unbiased(self) -> bool:
        return True

    def _encode(self, vector_d: np.ndarray, key: int) -> bytes:
        buckets = -(-vector_d.size // self.params.bucket)
        norms_b = np.zeros(buckets, np.float32)
        levels_d = np.zeros(vector_d.size, np.int32)
        uniforms_d = uniform_bits(stream_key(key, "rounding"), vector_d.size)
        _quantise(buckets, vector_d, uniforms_d, self.params.bucket, self.params.levels, norms_b, levels_d)
        count = _COUNT.pack(np.count_nonzero(levels_d))
        return b"".join([count, norms_b.astype("<f4").tobytes(), write_sparse(levels_d)])

    def _decode(self, body: memoryview, dimension: int, key: int) -> np.ndarray:
        buckets = -(-dimension // self.params.bucket)
        norms_b = read_array(body, "<f4", buckets, "qsgd body", _COUNT.size)
        if not np.isfinite(norms_b).all():
            raise PayloadError("qsgd norms: expected finite numbers, found others")
        (count,) = _COUNT.unpack_from(body)
        if count > dimension:
            raise PayloadError(f"qsgd levels: expected at most {dimension} that are not zero, found {count}")
        bits = np.frombuffer(body, np.uint8, offset=_COUNT.size + 4 * buckets)
        levels_d = read_sparse(bits, count, dimension, self.params.levels)
        norms_d = np.repeat(norms_b, self.params.bucket)[:dimension]
        return norms_d * (levels_d / np.float32(self.params.levels)).astype(np.float32)


@over_indices(grain=64)
def _quantise(start, stop, vector_d, uniforms_d, bucket, levels, norms_b, levels_d):  # type: ignore[no-untyped-def]
    for b in range(start, stop):
        first, end = b * bucket, min((b + 1) * bucket, vector_d.size)
        total = 0.0
        for i in range(first, end):
            total += np.float64(vector_d[i]) ** 2
        norms_b[b] = np.sqrt(total)
        if norms_b[b] > 0:
            for i in range(first, end):
                level = np.abs(np.float64(vector_d[i])) / np.float64(norms_b[b]) * levels
                rounded = min(np.int32(np.floor(level + uniforms_d[i] * 2.0**-32)), levels)
                levels_d[i] = rounded if vector_d[i] >= 0 else -rounded
