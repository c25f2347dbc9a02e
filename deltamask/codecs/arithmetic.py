"""Exact entropy coding of an index set whose only known property is its size."""

from __future__ import annotations

import struct

import constriction
import numpy as np

from deltamask.codecs.base import Codec, check_indices
from deltamask.payload import PayloadError

_HEADER = struct.Struct("<I")


class Arithmetic(Codec):
    """Range coder (constriction) over the indicator bits with one fixed probability, the share of indices in the set.

    Its rate is the empirical entropy H2(n / d) and a word or two, whether the set is sparse or dense: FedPM (Isik et
    al., ICLR 2023) sends whole masks in this way. Body, little-endian: n (uint32) | words (uint32).
    """

    name, id, summary = "arithmetic", 6, "exact range coder at the entropy of the share of flips: no false flips"
    false_positive_rate = 0.0

    def encode(self, indices: np.ndarray, dimension: int) -> bytes:
        check_indices(indices, dimension)
        header = _HEADER.pack(indices.size)
        if indices.size in (0, dimension):
            return header
        bits_d = np.zeros(dimension, np.int32)
        bits_d[indices] = 1
        encoder = constriction.stream.queue.RangeEncoder()
        encoder.encode(bits_d, _model(indices.size, dimension))
        return header + encoder.get_compressed().astype("<u4").tobytes()

    def decode(self, data: bytes | memoryview, dimension: int) -> np.ndarray:
        if len(data) < _HEADER.size or len(data) % 4:
            raise PayloadError(f"arithmetic body: expected a multiple of 4 bytes, at least 4, found {len(data)}")
        (size,) = _HEADER.unpack_from(data)
        if size > dimension:
            raise PayloadError(f"arithmetic indices: expected at most {dimension}, found {size}")
        words = np.frombuffer(data, "<u4", offset=_HEADER.size)
        if size in (0, dimension):
            if words.size:
                raise PayloadError(f"arithmetic body: expected 4 bytes, found {len(data)}")
            return np.arange(size, dtype=np.uint64)
        decoder = constriction.stream.queue.RangeDecoder(words.astype(np.uint32))
        try:
            bits_d = decoder.decode(_model(size, dimension), dimension)
        except AssertionError as error:
            raise PayloadError(f"arithmetic words: expected {size} of {dimension} indices, found {error}") from error
        indices = np.flatnonzero(bits_d).astype(np.uint64)
        if indices.size != size or not decoder.maybe_exhausted():
            raise PayloadError(f"arithmetic words: expected {size} indices and no more words, found {indices.size}")
        return indices


def _model(ones: int, dimension: int) -> constriction.stream.model.Bernoulli:
    return constriction.stream.model.Bernoulli(ones / dimension, perfect=False)
