"""Xor filters (Graf, Lemire: "Xor filters", JEA 2020), 8 and 16 bit fingerprints."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from deltamask.codecs.filters import FilterCodec, hash_key
from deltamask.parallel import over_indices


@numba.njit(inline="always")
def _slot(h: np.uint64, turn: np.uint64, block_length: np.uint64) -> np.uint64:
    """The C core's ``reduce(rotl(h, turn))``: a slot of one block."""
    turned = (h << turn) | (h >> ((np.uint64(64) - turn) & np.uint64(63)))
    return ((turned & np.uint64(0xFFFFFFFF)) * block_length) >> np.uint64(32)


@over_indices()
def _query_xor(start, stop, seed, block_length, fingerprints, bits, found_d):  # type: ignore[no-untyped-def]
    low = np.uint64((1 << bits) - 1)
    for i in range(np.uint64(start), np.uint64(stop)):
        h = hash_key(np.uint64(i), seed)
        h0 = _slot(h, np.uint64(0), block_length)
        h1 = _slot(h, np.uint64(21), block_length) + block_length
        h2 = _slot(h, np.uint64(42), block_length) + block_length + block_length
        f = h ^ (h >> np.uint64(32)) ^ np.uint64(fingerprints[h0] ^ fingerprints[h1] ^ fingerprints[h2])
        found_d[i] = (f & low) == np.uint64(0)


class _Xor(FilterCodec):
    c_name = "xor"

    def _populate(self, filter_c: Any, keys_c: Any, keys: int) -> tuple[bool, int]:
        return bool(self._call("buffered_populate")(keys_c, keys, filter_c)), int(filter_c.seed)

    def _fingerprints(self, filter_c: Any) -> tuple[Any, int]:
        return filter_c.fingerprints, 3 * int(filter_c.blockLength)

    def _query(self, filter_c: Any, seed: np.uint64, fingerprints: np.ndarray, found_d: np.ndarray) -> None:
        _query_xor(found_d.size, seed, np.uint64(filter_c.blockLength), fingerprints, self.fingerprint_bits, found_d)


class Xor8(_Xor):
    name, id, summary = "xor8", 3, "xor filter, 8-bit fingerprints: 9.84 bits a key, 2^-8 false flips"
    fingerprint_bits, false_positive_rate = 8, 2.0**-8


class Xor16(_Xor):
    name, id, summary = "xor16", 4, "xor filter, 16-bit fingerprints: 19.7 bits a key, 2^-16 false flips"
    fingerprint_bits, false_positive_rate = 16, 2.0**-16


class Xor8Png(Xor8):
    name, id, image = "xor8+png", 19, True
    summary = "xor8 stored as a grayscale PNG"


class Xor16Png(Xor16):
    name, id, image = "xor16+png", 20, True
    summary = "xor16 stored as a grayscale PNG"
