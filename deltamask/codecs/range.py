"""Exact coding of flips by what both sides know: the probabilities theta and the uniforms of the reference mask.

A flip at an index needs its uniform u between the old and the new probability. So P(flip | u, theta) depends on how far
u is from theta, and in which direction, and on theta: an index whose u is far from its theta costs almost nothing,
and the bits go where flips can happen. The decoder knows theta and u before it reads a bit.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from deltamask.bitcoder import (
    ONE,
    adapt,
    begin_decoding,
    begin_encoding,
    decode_bit,
    encode_bit,
    finish_decoding,
    finish_encoding,
    read_words,
    write_words,
)
from deltamask.codecs.base import Codec, check_indices
from deltamask.logits import THETA_BUCKETS, log2_32, logit_32, theta_bucket
from deltamask.payload import PayloadError
from deltamask.sampling import bits_at

_DISTANCE_BINS = 48  # half of them for each side of theta
_CONTEXTS = THETA_BUCKETS * _DISTANCE_BINS
_MODELS = _CONTEXTS + _DISTANCE_BINS + 2 * THETA_BUCKETS
_LOG_UNIT = 256  # of the logits that are mixed
_LIMIT = 24 * _LOG_UNIT  # chances lie within 2^-24 .. 1 - 2^-24
_COLD = ONE >> 12  # below this chance, and when it is well known, mixing cannot pay
_WELL_KNOWN = 100
_RATE_SHIFT = 25  # of the weights of the mixture: a learning rate of about 0.003
# Rounded from values that are nowhere near a half, so that every machine has the same tables.
_LOG = np.rint(_LOG_UNIT * np.log2(1 + (np.arange(256) + 0.5) / 256)).astype(np.int64)
_SQUASH = np.clip(
    np.rint(ONE / (1 + 2.0 ** (-np.arange(-_LIMIT, _LIMIT + 1) / _LOG_UNIT))).astype(np.int64), 1, ONE - 1
)
_START = ONE >> 6
_NO_THETA = np.empty(0, np.float32)


class Range(Codec):
    """Adaptive binary range coder over the indicator of flips, given theta and the distance of u from theta.

    Three models give a chance each: by (bucket of theta, distance), by the distance, and by (bucket of theta, side of
    it). Their logits are mixed with weights that adapt, as are the chances (logistic mixing: Mahoney, "Adaptive
    weighing of context models for lossless data compression", 2005); where the first is sure that nothing flips, it is
    taken alone. All starts from fixed values and adapts alike at both sides, so no table is sent. All arithmetic is on
    integers: theta as its 32-bit threshold, logarithms from tables, chances in units of 2^-24. Where this does not pay,
    or without theta and key, there is a single context. Body: 1 if theta is used, else 0 (uint8) | words (uint32,
    big-endian); nothing for the empty set.
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

    def bits_given(self, indices: np.ndarray, theta_d: np.ndarray, key: int) -> np.ndarray:
        """Estimate by how often each context flips among ``indices``: those that are sent are likely alike."""
        contexts, seen = _contexts_of(indices, theta_d, np.uint64(key))
        chances = (np.bincount(contexts, minlength=_CONTEXTS) + 0.5) / (seen + 1.0)
        # A flip costs -log2 p, and sending none there would have cost -log2 (1 - p).
        costs = np.log2((1 - np.minimum(chances, 0.5)) / chances)
        return np.maximum(costs, 1.0)[contexts]


def _entropy_bits(size: int, dimension: int) -> float:
    """Length of an ideal code that knows the size of the set alone."""
    p = size / dimension
    return -dimension * sum(q * math.log2(q) for q in (p, 1 - p) if q > 0)


def _write(indices: np.ndarray, theta_d: np.ndarray, key: int, dimension: int) -> bytes:
    room = indices.size + dimension // 32 + 16
    return bytes([theta_d.size > 0]) + write_words(
        lambda words: _encode(words, indices, theta_d, np.uint64(key), dimension), room
    )


def _read(data: bytes | memoryview, theta_d: np.ndarray, key: int) -> np.ndarray:
    if len(data) == 0:
        return np.empty(0, np.uint64)
    if data[0] > 1:
        raise PayloadError(f"range body: expected a flag of 0 or 1, found {data[0]}")
    flips_d = np.empty(theta_d.size, np.bool_)
    known_d = theta_d if data[0] else _NO_THETA
    read_words("range body", data[1:], lambda words: _decode(words, known_d, np.uint64(key), flips_d))
    return np.flatnonzero(flips_d).astype(np.uint64)


@numba.njit(inline="always")
def _bin(distance: np.int64) -> np.int64:
    """Bin of a distance of at least 0: exact to 3, then four bins an octave, ``_DISTANCE_BINS / 2`` in all."""
    if distance < 4:
        return distance
    e = log2_32(distance) >> 5
    return min(4 * (e - 1) + ((distance >> (e - 2)) & 3), _DISTANCE_BINS // 2 - 1)


@numba.njit(inline="always")
def _context(theta_d, key, i):  # type: ignore[no-untyped-def]
    if theta_d.size == 0:
        return 0
    threshold = np.int64(theta_d[i] * np.float32(1 << 32))
    u = np.int64(bits_at(key, np.uint64(i)))
    logit_theta = logit_32(threshold)
    bucket = theta_bucket(logit_theta)
    distance = logit_32(u) - logit_theta
    half = _DISTANCE_BINS // 2
    side = half + _bin(distance) if u >= threshold else half - 1 - _bin(-distance)
    return bucket * _DISTANCE_BINS + side


@numba.njit(nogil=True, cache=True)
def _contexts_of(indices, theta_d, key):  # type: ignore[no-untyped-def]
    """Contexts of some indices, and how often each context occurs among all."""
    contexts, seen = np.empty(indices.size, np.int64), np.zeros(_CONTEXTS, np.int64)
    following = 0
    for i in range(theta_d.size):
        context = _context(theta_d, key, i)
        seen[context] += 1
        if following < indices.size and indices[following] == i:
            contexts[following] = context
            following += 1
    return contexts, seen


@numba.njit(inline="always")
def _stretch(chance: np.int64) -> np.int64:
    """Logit to base 2 of chance / 2^24, in units of 1/256."""
    one, zero = np.float64(chance).view(np.int64) >> 44, np.float64(ONE - chance).view(np.int64) >> 44
    return ((one >> 8) - (zero >> 8)) * _LOG_UNIT + _LOG[one & 255] - _LOG[zero & 255]


@numba.njit(inline="always")
def _is_cold(chances, counts, context):  # type: ignore[no-untyped-def]
    return chances[context] < _COLD and counts[context] >= _WELL_KNOWN


@numba.njit(inline="always")
def _mix(chances, context, logits, weights):  # type: ignore[no-untyped-def]
    """The mixed chance of a flip; fills the models' logits."""
    logits[0] = _stretch(chances[context])
    logits[1] = _stretch(chances[_by_distance(context)])
    logits[2] = _stretch(chances[_by_theta(context)])
    mixed = (logits[0] * weights[0] + logits[1] * weights[1] + logits[2] * weights[2]) >> 16
    return _SQUASH[min(max(mixed, -_LIMIT), _LIMIT) + _LIMIT]


@numba.njit(inline="always")
def _by_distance(context: np.int64) -> np.int64:
    return _CONTEXTS + context % _DISTANCE_BINS


@numba.njit(inline="always")
def _by_theta(context: np.int64) -> np.int64:
    side = context % _DISTANCE_BINS >= _DISTANCE_BINS // 2
    return _CONTEXTS + _DISTANCE_BINS + 2 * (context // _DISTANCE_BINS) + side


@numba.njit(inline="always")
def _learn(chances, counts, context, logits, weights, mixed, flip):  # type: ignore[no-untyped-def]
    """Adapt the mixture and the models that only it uses."""
    error = (ONE if flip else 0) - mixed
    for model in range(3):
        weights[model] += (error * logits[model]) >> _RATE_SHIFT
    adapt(chances, counts, _by_distance(context), flip)
    adapt(chances, counts, _by_theta(context), flip)


@numba.njit(inline="always")
def _models():  # type: ignore[no-untyped-def]
    """Chances and counts of the models, room for their logits, and the mixture's weights in units of 2^-16."""
    return (
        np.full(_MODELS, _START, np.int64),
        np.zeros(_MODELS, np.int64),
        np.zeros(3, np.int64),
        np.full(3, 65536 // 3, np.int64),
    )


@numba.njit(nogil=True, cache=True)
def _encode(words, indices, theta_d, key, dimension):  # type: ignore[no-untyped-def]
    chances, counts, logits, weights = _models()
    low, width, used = begin_encoding()
    following = 0
    for i in range(dimension):
        context = _context(theta_d, key, i)
        flip = following < indices.size and indices[following] == i
        if flip:
            following += 1
        if theta_d.size == 0 or _is_cold(chances, counts, context):
            low, width, used = encode_bit(low, width, used, words, chances[context], flip)
        else:
            mixed = _mix(chances, context, logits, weights)
            low, width, used = encode_bit(low, width, used, words, mixed, flip)
            _learn(chances, counts, context, logits, weights, mixed, flip)
        adapt(chances, counts, context, flip)
        if used > words.size - 2:
            return words.size + 1
    return finish_encoding(low, used, words)


@numba.njit(nogil=True, cache=True)
def _decode(words, theta_d, key, flips_d):  # type: ignore[no-untyped-def]
    chances, counts, logits, weights = _models()
    state = begin_decoding(words)
    for i in range(flips_d.size):
        context = _context(theta_d, key, i)
        if theta_d.size == 0 or _is_cold(chances, counts, context):
            flip, state = decode_bit(state, words, chances[context])
        else:
            mixed = _mix(chances, context, logits, weights)
            flip, state = decode_bit(state, words, mixed)
            _learn(chances, counts, context, logits, weights, mixed, flip)
        adapt(chances, counts, context, flip)
        flips_d[i] = flip
    return finish_decoding(state)
