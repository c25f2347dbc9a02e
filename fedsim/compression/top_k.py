"""Top-k sparsification: the largest entries, their indices entropy-coded exactly."""

from __future__ import annotations

import math
import struct
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from deltamask import codecs
from deltamask.payload import PayloadError
from fedsim.compression.base import Compressor, check_end
from fedsim.compression.none import to_floats
from fedsim.settings import CompressorSettings

_LENGTH = struct.Struct("<I")


class SparseSettings(CompressorSettings):
    """Parameters of compressors that send the largest entries."""

    share: float = Field(0.01, gt=0, le=1, description="share of the entries that is sent, largest magnitude first")
    dtype: Literal["float32", "float16"] = Field("float32", description="type of the values that are sent")


class SparseCompressor(Compressor):
    """The ``ceil(share * d)`` largest magnitudes: indices through an index codec, a value for each that it decodes.

    Values are floats, unless a subclass writes them otherwise.

    Body: length of the indices in bytes (uint32) | indices | values.
    """

    params: SparseSettings
    #: How the index set is written.
    codec: ClassVar[codecs.Codec]

    @property
    def unbiased(self) -> bool:
        return False

    def _encode(self, vector_d: np.ndarray, key: int) -> bytes:
        count = math.ceil(self.params.share * vector_d.size)
        largest = np.sort(np.argpartition(np.abs(vector_d), vector_d.size - count)[vector_d.size - count :])
        indices = self.codec.encode(largest.astype(np.uint64), vector_d.size)
        values = vector_d[self.codec.decode(indices, vector_d.size)]
        return b"".join([_LENGTH.pack(len(indices)), indices, self.encode_values(values, key)])

    def _decode(self, body: memoryview, dimension: int, key: int) -> np.ndarray:
        if len(body) < _LENGTH.size:
            raise PayloadError(f"{self.name} body: expected at least {_LENGTH.size} bytes, found {len(body)}")
        end = _LENGTH.size + _LENGTH.unpack_from(body)[0]
        if end > len(body):
            raise PayloadError(f"{self.name} indices: expected at most {len(body)} bytes, found {end}")
        indices = self.codec.decode(body[_LENGTH.size : end], dimension)
        out_d = np.zeros(dimension, np.float32)
        out_d[indices] = self.decode_values(body[end:], indices.size, key)
        return out_d

    def encode_values(self, values_n: np.ndarray, key: int) -> bytes:
        """The sent values, float32 of shape ``(n,)``, as bytes."""
        return to_floats(values_n, self.params.dtype)

    def decode_values(self, body: memoryview, count: int, key: int) -> np.ndarray:
        """The values of :meth:`encode_values`, of shape ``(count,)``. Raises PayloadError when the bytes are none."""
        dtype = np.dtype(self.params.dtype).newbyteorder("<")
        check_end(body, count * dtype.itemsize, f"{self.name} values")
        return np.frombuffer(body, dtype)


class TopKSettings(SparseSettings):
    """Parameters of :class:`TopK`."""

    name: str = "top-k"


class TopK(SparseCompressor):
    """Exact indices at their entropy; combine with the method's error feedback (Stich et al., NeurIPS 2018)."""

    name, id, summary = "top-k", 68, "largest entries, indices exact and entropy-coded"
    Params = TopKSettings
    codec = codecs.get("arithmetic")
