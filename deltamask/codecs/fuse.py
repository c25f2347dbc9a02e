"""Binary fuse filters with three hashes (Graf, Lemire: "Binary fuse filters", JEA 2022), 8 and 16 bit fingerprints."""

from __future__ import annotations

from typing import Any

import numpy as np

from deltamask.codecs.filters import FilterCodec, hash_key
from deltamask.parallel import over_indices


@over_indices()
def _query_fuse(start, stop, seed, segment_length, segment_count_length, fingerprints, bits, found_d):  # type: ignore[no-untyped-def]
    low = np.uint64((1 << bits) - 1)
    segment_mask = segment_length - np.uint64(1)
    for i in range(np.uint64(start), np.uint64(stop)):
        h = hash_key(np.uint64(i), seed)
        # Upper 64 bits of h * segment_count_length, whose second factor is below 2**32.
        upper = (h >> np.uint64(32)) * segment_count_length
        lower = (h & np.uint64(0xFFFFFFFF)) * segment_count_length
        h0 = (upper + (lower >> np.uint64(32))) >> np.uint64(32)
        h1 = (h0 + segment_length) ^ ((h >> np.uint64(18)) & segment_mask)
        h2 = (h0 + segment_length + segment_length) ^ (h & segment_mask)
        f = h ^ (h >> np.uint64(32)) ^ np.uint64(fingerprints[h0] ^ fingerprints[h1] ^ fingerprints[h2])
        found_d[i] = (f & low) == np.uint64(0)


class _Fuse(FilterCodec):
    c_name = "binary_fuse"

    def _populate(self, filter_c: Any, keys_c: Any, keys: int) -> tuple[bool, int]:
        return bool(self._call("populate")(keys_c, keys, filter_c)), int(filter_c.Seed)

    def _fingerprints(self, filter_c: Any) -> tuple[Any, int]:
        return filter_c.Fingerprints, int(filter_c.ArrayLength)

    def _query(self, filter_c: Any, seed: np.uint64, fingerprints: np.ndarray, found_d: np.ndarray) -> None:
        length, count_length = np.uint64(filter_c.SegmentLength), np.uint64(filter_c.SegmentCountLength)
        _query_fuse(found_d.size, seed, length, count_length, fingerprints, self.fingerprint_bits, found_d)


class Fuse8(_Fuse):
    name, id, summary = "fuse8", 1, "binary fuse filter, 8-bit fingerprints: about 9 bits a key, 2^-8 false flips"
    fingerprint_bits, false_positive_rate = 8, 2.0**-8


class Fuse16(_Fuse):
    name, id, summary = "fuse16", 2, "binary fuse filter, 16-bit fingerprints: about 18 bits a key, 2^-16 false flips"
    fingerprint_bits, false_positive_rate = 16, 2.0**-16


class Fuse8Png(Fuse8):
    name, id, image = "fuse8+png", 17, True
    summary = "fuse8 stored as a grayscale PNG, as in the DeltaMask paper: about 8.7 bits a key"


class Fuse16Png(Fuse16):
    name, id, image = "fuse16+png", 18, True
    summary = "fuse16 stored as a grayscale PNG: about 17 bits a key"
