"""Exact coding of flips by what both sides know: the probabilities theta and the uniforms of the reference mask.

A flip at an index needs its uniform u between the old and the new probability. So P(flip | u, theta) depends on how far
u is from theta, and in which direction, and on theta: an index whose u is far from its theta costs almost nothing,
and the bits go where flips can happen. The decoder knows theta and u before it reads a bit.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from deltamask.codecs.base import Codec, check_indices
from deltamask.payload import PayloadError
from deltamask.sampling import bits_at

_THETA_BUCKETS = 24
_DISTANCE_BINS = 48  # half of them for each side of theta
_CONTEXTS = _THETA_BUCKETS * _DISTANCE_BINS
_ONE = 1 << 24  # probabilities are integers in units of 2^-24
_START = _ONE >> 6
_SLOWEST = 4096  # a context's chance is the mean over about so many of its last symbols
_NO_THETA = np.empty(0, np.float32)
_RATES = (1 << 24) // (np.arange(_SLOWEST, dtype=np.int64) + 2)


class Range(Codec):
    """Adaptive binary range coder over the indicator of flips, in the contexts (theta, distance of u from theta).

    Contexts start from a fixed probability and adapt alike at both sides, so no table is sent. All arithmetic is on
    integers: theta as its 32-bit threshold, the distance as a difference of integer logarithms, chances in units of
    2^-24. Where the contexts do not pay, or without theta and key, there is a single one. Body: 1 if there are
    contexts, else 0 (uint8) | words (uint32, big-endian); nothing for the empty set.
    """

    name, id, summary = "range", 8, "exact adaptive range coder given theta and the shared uniforms: no false flips"
    false_positive_rate = 0.0

    def encode(self, indices: np.ndarray, dimension: int) -> bytes:
        check_indices(indices, dimension)
        return _write(indices, _NO_THETA, 0, dimension) if indices.size else b""

    def decode(self, data: bytes | memoryview, dimension: int) -> np.ndarray:
        return _read(data, np.full(dimension, 0.5, np.float32), 0)

    def encode_given(self, indices: np.ndarray, theta_d: np.ndarray, key: int) -> bytes:
        check_indices(indices, theta_d.size)
        if not indices.size:
            return b""
        body = _write(indices, theta_d, key, theta_d.size)
        # Only where contexts may not pay is it worth coding twice.
        if 8 * len(body) > 0.9 * _entropy_bits(indices.size, theta_d.size):
            body = min(body, self.encode(indices, theta_d.size), key=len)
        return body

    def decode_given(self, data: bytes | memoryview, theta_d: np.ndarray, key: int) -> np.ndarray:
        return _read(data, theta_d, key)


def _entropy_bits(size: int, dimension: int) -> float:
    """Length of an ideal code that knows the size of the set alone."""
    p = size / dimension
    return -dimension * sum(q * math.log2(q) for q in (p, 1 - p) if q > 0)


def _write(indices: np.ndarray, theta_d: np.ndarray, key: int, dimension: int) -> bytes:
    words = np.empty(indices.size + dimension // 32 + 16, np.uint32)
    while (used := _encode(indices, theta_d, np.uint64(key), dimension, words)) > words.size:
        words = np.empty(2 * words.size, np.uint32)
    return bytes([theta_d.size > 0]) + words[:used].astype(">u4").tobytes()


def _read(data: bytes | memoryview, theta_d: np.ndarray, key: int) -> np.ndarray:
    if len(data) == 0:
        return np.empty(0, np.uint64)
    if data[0] > 1 or len(data) % 4 != 1:
        raise PayloadError(f"range body: expected a flag and words, found {len(data)} bytes that begin with {data[0]}")
    words = np.frombuffer(data, ">u4", offset=1).astype(np.uint32)
    flips_d = np.empty(theta_d.size, np.bool_)
    used = _decode(words, theta_d if data[0] else _NO_THETA, np.uint64(key), flips_d)
    if used != words.size:
        raise PayloadError(f"range body: expected {used} words, found {words.size}")
    return np.flatnonzero(flips_d).astype(np.uint64)


@numba.njit(inline="always")
def _log2(x: np.int64) -> np.int64:
    """Binary logarithm of 1 .. 2^32 in units of 1/32, linear between powers of two: the head of its float64 pattern."""
    return (np.float64(x).view(np.int64) >> 47) - (1023 << 5)


@numba.njit(inline="always")
def _logit(x):  # type: ignore[no-untyped-def]
    """Logit to base 2 of x / 2^32, in units of 1/32; x is moved into 1 .. 2^32 - 1."""
    x = min(max(x, 1), (1 << 32) - 1)
    return _log2(x) - _log2((1 << 32) - x)


@numba.njit(inline="always")
def _bin(distance: np.int64) -> np.int64:
    """Bin of a distance of at least 0: exact to 3, then four bins an octave, ``_DISTANCE_BINS / 2`` in all."""
    if distance < 4:
        return distance
    e = _log2(distance) >> 5
    return min(4 * (e - 1) + ((distance >> (e - 2)) & 3), _DISTANCE_BINS // 2 - 1)


@numba.njit(inline="always")
def _context(theta_d, key, i):  # type: ignore[no-untyped-def]
    if theta_d.size == 0:
        return 0
    threshold = np.int64(theta_d[i] * np.float32(4294967296.0))
    u = np.int64(bits_at(key, np.uint64(i)))
    logit_theta = _logit(threshold)
    bucket = min(max((logit_theta >> 4) + _THETA_BUCKETS // 2, 0), _THETA_BUCKETS - 1)
    distance = _logit(u) - logit_theta
    half = _DISTANCE_BINS // 2
    side = half + _bin(distance) if u >= threshold else half - 1 - _bin(-distance)
    return bucket * _DISTANCE_BINS + side


@numba.njit(inline="always")
def _adapt(chances, counts, context, flip):  # type: ignore[no-untyped-def]
    """Move a context's chance towards what was seen; it stays within 1 .. 2^24 - 1."""
    target = _ONE - 1 if flip else 1
    chances[context] += ((target - chances[context]) * _RATES[counts[context]]) >> 24
    if counts[context] < _SLOWEST - 1:
        counts[context] += 1


@numba.njit(cache=True)
def _encode(indices, theta_d, key, dimension, words):  # type: ignore[no-untyped-def]
    """Write words; return how many there are, which is more than fit when there is no room."""
    chances, counts = np.full(_CONTEXTS, _START, np.int64), np.zeros(_CONTEXTS, np.int64)
    low, width, used, following = np.uint64(0), ~np.uint64(0), 0, 0
    for i in range(dimension):
        context = _context(theta_d, key, i)
        flip = following < indices.size and indices[following] == i
        bound = (width >> np.uint64(24)) * np.uint64(chances[context])
        if flip:
            following += 1
            width = bound
        else:
            low += bound
            width -= bound
            if low < bound:
                _carry(words, used)
        while width <= np.uint64(0xFFFFFFFF):
            if used == words.size:
                return used + 1
            words[used] = np.uint32(low >> np.uint64(32))
            used += 1
            low <<= np.uint64(32)
            width <<= np.uint64(32)
        _adapt(chances, counts, context, flip)
    # The shortest number in [low, low + width): the decoder reads zeros after the last word.
    last = low + np.uint64(0xFFFFFFFF)
    if last < low:
        _carry(words, used)
    if used == words.size:
        return used + 1
    words[used] = np.uint32(last >> np.uint64(32))
    return used + 1


@numba.njit(inline="always")
def _carry(words, used):  # type: ignore[no-untyped-def]
    while True:
        used -= 1
        words[used] += np.uint32(1)
        if words[used]:
            break


@numba.njit(cache=True)
def _decode(words, theta_d, key, flips_d):  # type: ignore[no-untyped-def]
    """Set the flips; return how many words their encoder wrote."""
    chances, counts = np.full(_CONTEXTS, _START, np.int64), np.zeros(_CONTEXTS, np.int64)
    code, width, position = np.uint64(0), ~np.uint64(0), 0
    for _ in range(2):
        code = (code << np.uint64(32)) | (np.uint64(words[position]) if position < words.size else np.uint64(0))
        position += 1
    for i in range(flips_d.size):
        context = _context(theta_d, key, i)
        bound = (width >> np.uint64(24)) * np.uint64(chances[context])
        flip = code < bound
        if flip:
            width = bound
        else:
            code -= bound
            width -= bound
        while width <= np.uint64(0xFFFFFFFF):
            code = (code << np.uint64(32)) | (np.uint64(words[position]) if position < words.size else np.uint64(0))
            position += 1
            width <<= np.uint64(32)
        flips_d[i] = flip
        _adapt(chances, counts, context, flip)
    return position - 1
