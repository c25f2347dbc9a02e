"""Bloom filter (Bloom, CACM 1970), the index codec of DeepReduce (Xu et al., NeurIPS 2021)."""

from __future__ import annotations

import math
import struct

import numba
import numpy as np

from deltamask.codecs.base import Codec, check_indices
from deltamask.codecs.filters import hash_key
from deltamask.parallel import over_indices
from deltamask.payload import PayloadError

_HEADER = struct.Struct("<I")
_HASHES = 8
_MAX_KEYS = int((2**32 - 1) * math.log(2) / _HASHES)  # the kernels take products of 32-bit factors


class Bloom(Codec):
    """Eight hashes and ``8 / ln 2`` bits a key, the optimum for a false positive rate of 2^-8.

    Body, little-endian: number of keys (uint32) | bits. The hashes have fixed seeds: building never fails.
    """

    name, id, summary = "bloom", 5, "Bloom filter with 8 hashes: 11.5 bits a key, 2^-8 false flips"
    false_positive_rate = 2.0**-_HASHES

    def encode(self, indices: np.ndarray, dimension: int) -> bytes:
        check_indices(indices, dimension)
        if indices.size > _MAX_KEYS:
            raise ValueError(f"indices: found {indices.size}, allowed: at most {_MAX_KEYS} in a Bloom filter")
        if indices.size == 0:
            return b""
        content = np.zeros(_content_bytes(indices.size), np.uint8)
        _insert(indices, np.uint64(_bits(indices.size)), content)
        return _HEADER.pack(indices.size) + content.tobytes()

    def decode(self, data: bytes | memoryview, dimension: int) -> np.ndarray:
        if len(data) == 0:
            return np.empty(0, np.uint64)
        if len(data) <= _HEADER.size:
            raise PayloadError(f"bloom body: expected more than {_HEADER.size} bytes, found {len(data)}")
        (keys,) = _HEADER.unpack_from(data)
        if not 1 <= keys <= min(dimension, _MAX_KEYS):
            raise PayloadError(f"bloom keys: expected 1 to {min(dimension, _MAX_KEYS)}, found {keys}")
        content = np.frombuffer(data, np.uint8, offset=_HEADER.size)
        if content.size != _content_bytes(keys):
            raise PayloadError(f"bloom bits: expected {_content_bytes(keys)} bytes, found {content.size}")
        found_d = np.empty(dimension, np.bool_)
        _query(dimension, np.uint64(_bits(keys)), content, found_d)
        return np.flatnonzero(found_d).astype(np.uint64)


def _bits(keys: int) -> int:
    return math.ceil(keys * _HASHES / math.log(2))


def _content_bytes(keys: int) -> int:
    return -(-_bits(keys) // 8)


@numba.njit(inline="always")
def _position(key: np.uint64, turn: int, bits: np.uint64) -> np.uint64:
    # Seeds far apart: with small ones, the hashes of neighbouring keys would coincide.
    seed = np.uint64(turn) * np.uint64(0x9E3779B97F4A7C15)
    return ((hash_key(key, seed) >> np.uint64(32)) * bits) >> np.uint64(32)


@numba.njit(cache=True)
def _insert(indices, bits, content):  # type: ignore[no-untyped-def]
    for key in indices:
        for turn in range(_HASHES):
            position = _position(key, turn, bits)
            content[position >> np.uint64(3)] |= np.uint8(1 << (position & np.uint64(7)))


@over_indices()
def _query(start, stop, bits, content, found_d):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(start), np.uint64(stop)):
        found = True
        for turn in range(_HASHES):
            position = _position(np.uint64(i), turn, bits)
            if not (content[position >> np.uint64(3)] >> np.uint8(position & np.uint64(7))) & 1:
                found = False
                break
        found_d[i] = found
