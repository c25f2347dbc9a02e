"""The codec that all probabilistic filters share: header, fingerprints, and the query of every index.

Body, little-endian: number of keys (uint32) | filter seed (uint64) | fingerprints, raw or as a PNG image. The geometry
of a filter follows from its number of keys, so nothing else is sent; the set that is queried is ``0 .. dimension - 1``.
"""

from __future__ import annotations

import struct
from abc import abstractmethod
from typing import Any, ClassVar

import numba
import numpy as np
from pyfusefilter._xorfilter import ffi, lib

from deltamask.codecs import png
from deltamask.codecs.base import Codec, check_indices
from deltamask.payload import PayloadError

_HEADER = struct.Struct("<IQ")


class FilterCodec(Codec):
    """Base of the filter codecs; a subclass binds one filter of pyfusefilter's C core.

    The core is called once with all keys as a uint64 array, and queried by a numba kernel over its fingerprints: the
    package's Python classes hash ``str(key)`` one by one.
    """

    #: Prefix of the C core's functions and of its struct, before the number of bits.
    c_name: ClassVar[str]
    fingerprint_bits: ClassVar[int]
    #: Fingerprints travel as a lossless grayscale image instead of raw bytes.
    image: ClassVar[bool] = False

    @abstractmethod
    def _populate(self, filter_c: Any, keys_c: Any, keys: int) -> tuple[bool, int]:
        """Build in place; return (success, seed)."""

    @abstractmethod
    def _fingerprints(self, filter_c: Any) -> tuple[Any, int]:
        """Pointer to the fingerprints and their number."""

    @abstractmethod
    def _query(self, filter_c: Any, seed: np.uint64, fingerprints: np.ndarray, found_d: np.ndarray) -> None:
        """Set ``found_d[i]`` where index i is in the filter with the geometry of ``filter_c``."""

    def encode(self, indices: np.ndarray, dimension: int) -> bytes:
        check_indices(indices, dimension)
        if indices.size == 0:
            return b""
        keys = np.array(indices)  # the C core may sort or deduplicate its keys in place
        filter_c = self._allocate(keys.size)
        try:
            pointer, length = self._fingerprints(filter_c)
            content = ffi.buffer(pointer, length * self.fingerprint_bits // 8)
            # Slots that no key uses keep what the memory held: zero them, or they would leak it and hinder compression.
            content[:] = bytes(len(content))
            built, seed = self._populate(filter_c, ffi.from_buffer("uint64_t[]", keys), keys.size)
            if not built:
                raise RuntimeError(f"{self.name}: the filter could not be built for {keys.size} keys")
            fingerprints = bytes(content)
        finally:
            self._free(filter_c)
        return _HEADER.pack(indices.size, seed) + (png.write(fingerprints) if self.image else fingerprints)

    def decode(self, data: bytes | memoryview, dimension: int) -> np.ndarray:
        if len(data) == 0:
            return np.empty(0, np.uint64)
        if len(data) <= _HEADER.size:
            raise PayloadError(f"{self.name} body: expected more than {_HEADER.size} bytes, found {len(data)}")
        keys, seed = _HEADER.unpack_from(data)
        if not 1 <= keys <= dimension:
            raise PayloadError(f"{self.name} keys: expected 1 to {dimension}, found {keys}")
        stored = memoryview(data)[_HEADER.size :]
        # Checked before the geometry is asked of the C core, which reserves memory for that many keys.
        at_most = png.largest_content(stored) if self.image else len(stored)
        if keys * self.fingerprint_bits // 8 > at_most:
            raise PayloadError(f"{self.name} keys: found {keys}, more than {len(stored)} bytes can hold")
        filter_c = self._allocate(keys)
        try:
            expected = self._fingerprints(filter_c)[1] * self.fingerprint_bits // 8
            content = png.read(stored, expected) if self.image else stored
            if len(content) != expected:
                raise PayloadError(
                    f"{self.name} fingerprints: expected {expected} bytes for {keys} keys, found {len(content)}"
                )
            fingerprints = np.frombuffer(content, np.dtype(f"<u{self.fingerprint_bits // 8}"))
            found_d = np.empty(dimension, np.bool_)
            self._query(filter_c, np.uint64(seed), fingerprints, found_d)
        finally:
            self._free(filter_c)
        return np.flatnonzero(found_d).astype(np.uint64)

    def _call(self, function: str) -> Any:
        """A function of the C core for this filter, such as ``populate``."""
        return getattr(lib, f"{self.c_name}{self.fingerprint_bits}_{function}")

    def _allocate(self, keys: int) -> Any:
        """A C filter with room for ``keys`` keys, as a cffi struct; :meth:`_free` frees its fingerprints."""
        filter_c = ffi.new(f"{self.c_name}{self.fingerprint_bits}_t *")
        if not self._call("allocate")(keys, filter_c):
            raise MemoryError(f"{self.name}: no memory for {keys} keys")
        return filter_c

    def _free(self, filter_c: Any) -> None:
        self._call("free")(filter_c)


@numba.njit(inline="always")
def hash_key(key: np.uint64, seed: np.uint64) -> np.uint64:
    """The C core's ``mix_split``: MurmurHash3's 64-bit finaliser of ``key + seed``."""
    h = key + seed
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return h ^ (h >> np.uint64(33))
