"""Small integers as bytes: an adaptive code of their differences from what both sides expect."""

from __future__ import annotations

import numba
import numpy as np

from deltamask import parallel, payload
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

_PART = 1 << 22  # entries that are coded together
_LENGTHS = 48  # bits of a magnitude, at most
_PREFIXES = 1 << 11  # so much of a magnitude adapts; what follows is coded evenly
_DIFFERS = 0  # first context of each kind of bit, of a class: whether it differs, given how many of the last two did
_SIGN = 3
_LONGER = 4
_OF_CLASS = _LONGER + _LENGTHS


def encode_integers(values_d: np.ndarray, expected_d: np.ndarray, classes_d: np.ndarray) -> bytes:
    """Integers by their differences from the expected ones; nothing but these has to be close to zero.

    Very long arrays are coded in parts of 4 Mi entries, each from the start, so that threads can share them.

    Args:
        values_d: integers of shape ``(d,)``, less than 2^47 from the expected ones.
        expected_d: what the decoder expects, integers of shape ``(d,)`` or ``(1,)`` for one value everywhere.
        classes_d: uint8 of shape ``(d,)`` or ``(1,)``; integers of one class share their statistics.
    """

    def encode(part: slice) -> bytes:
        expected, classes = (array_d[part] if array_d.size > 1 else array_d for array_d in (expected_d, classes_d))
        differences = np.subtract(values_d[part], expected, dtype=np.int64)
        return write_words(lambda words: _encode(words, differences, classes), differences.size // 16 + 64)

    parts = parallel.each(encode, _parts(values_d.size))
    return parts[0] if len(parts) == 1 else payload.join(parts)


def decode_integers(
    what: str, data: bytes | memoryview, expected_d: np.ndarray, classes_d: np.ndarray, dimension: int
) -> np.ndarray:
    """The int64 values of :func:`encode_integers`, of shape ``(dimension,)``; ``what`` names them in errors.

    Raises:
        PayloadError: no encoder wrote these bytes.
    """
    values_d, data, parts = np.empty(dimension, np.int64), memoryview(data), _parts(dimension)

    def decode(found: tuple[slice, memoryview]) -> None:
        part, words_of_part = found
        expected, classes = (array_d[part] if array_d.size > 1 else array_d for array_d in (expected_d, classes_d))
        read_words(what, words_of_part, lambda words: _decode(words, values_d[part], classes))
        values_d[part] += expected

    words = [data] if len(parts) == 1 else payload.split(what, data, len(parts))
    parallel.each(decode, zip(parts, words, strict=True))
    return values_d


def _parts(dimension: int) -> list[slice]:
    """Parts that are coded apart from each other, as both sides know from the dimension."""
    return [slice(start, min(start + _PART, dimension)) for start in range(0, max(dimension, 1), _PART)]


@numba.njit(inline="always")
def _contexts():  # type: ignore[no-untyped-def]
    size = 256 * _OF_CLASS + _LENGTHS * _PREFIXES
    return np.full(size, ONE >> 1, np.int64), np.zeros(size, np.int64)


@numba.njit(inline="always")
def _prefix_context(length, prefix):  # type: ignore[no-untyped-def]
    return 256 * _OF_CLASS + length * _PREFIXES + prefix


@numba.njit(nogil=True, cache=True)
def _encode(words, differences_d, classes_d):  # type: ignore[no-untyped-def]
    chances, counts = _contexts()
    low, width, used = begin_encoding()
    recent = 0
    for i in range(differences_d.size):
        if used > words.size - 64:
            return words.size + 1
        first = np.int64(classes_d[i if classes_d.size > 1 else 0]) * _OF_CLASS
        difference = differences_d[i]
        differs = difference != 0
        context = first + _DIFFERS + (recent & 1) + (recent >> 1)
        low, width, used = encode_bit(low, width, used, words, chances[context], differs)
        adapt(chances, counts, context, differs)
        recent = ((recent << 1) & 2) | differs
        if not differs:
            continue
        context = first + _SIGN
        low, width, used = encode_bit(low, width, used, words, chances[context], difference < 0)
        adapt(chances, counts, context, difference < 0)
        magnitude, length = abs(difference), 0
        while length < _LENGTHS - 1:
            longer = magnitude >> (length + 1) > 0
            context = first + _LONGER + length
            low, width, used = encode_bit(low, width, used, words, chances[context], longer)
            adapt(chances, counts, context, longer)
            if not longer:
                break
            length += 1
        prefix = 1
        for position in range(length - 1, -1, -1):
            bit = (magnitude >> position) & 1 == 1
            if prefix < _PREFIXES:
                context = _prefix_context(length, prefix)
                low, width, used = encode_bit(low, width, used, words, chances[context], bit)
                adapt(chances, counts, context, bit)
            else:
                low, width, used = encode_bit(low, width, used, words, ONE >> 1, bit)
            prefix = (prefix << 1) | bit
    return finish_encoding(low, used, words)


@numba.njit(nogil=True, cache=True)
def _decode(words, differences_d, classes_d):  # type: ignore[no-untyped-def]
    chances, counts = _contexts()
    state = begin_decoding(words)
    recent = 0
    for i in range(differences_d.size):
        first = np.int64(classes_d[i if classes_d.size > 1 else 0]) * _OF_CLASS
        context = first + _DIFFERS + (recent & 1) + (recent >> 1)
        differs, state = decode_bit(state, words, chances[context])
        adapt(chances, counts, context, differs)
        recent = ((recent << 1) & 2) | differs
        differences_d[i] = 0
        if not differs:
            continue
        context = first + _SIGN
        negative, state = decode_bit(state, words, chances[context])
        adapt(chances, counts, context, negative)
        length = 0
        while length < _LENGTHS - 1:
            context = first + _LONGER + length
            longer, state = decode_bit(state, words, chances[context])
            adapt(chances, counts, context, longer)
            if not longer:
                break
            length += 1
        magnitude = 1
        for _ in range(length):
            if magnitude < _PREFIXES:
                context = _prefix_context(length, magnitude)
                bit, state = decode_bit(state, words, chances[context])
                adapt(chances, counts, context, bit)
            else:
                bit, state = decode_bit(state, words, ONE >> 1)
            magnitude = (magnitude << 1) | bit
        differences_d[i] = -magnitude if negative else magnitude
    return finish_decoding(state)
