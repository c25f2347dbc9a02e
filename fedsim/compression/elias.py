"""Elias omega codes (Elias, "Universal codeword sets", 1975) of gaps, signs and levels of a sparse integer vector."""

from __future__ import annotations

import numba
import numpy as np

from deltamask.payload import PayloadError

_PROBLEMS = ("", "the bits end too early", "an index beyond the dimension", "a level beyond the largest")


def write_sparse(levels_d: np.ndarray) -> bytes:
    """Non-zero entries of an int32 vector, each as omega(gap to the one before) | sign | omega(magnitude)."""
    indices = np.flatnonzero(levels_d)
    values = levels_d[indices]
    gaps = np.diff(indices, prepend=-1)
    out = np.empty(-(-_count_bits(gaps, values) // 8), np.uint8)
    _write(gaps, values, out)
    return out.tobytes()


def read_sparse(data: np.ndarray, nonzeros: int, dimension: int, largest: int) -> np.ndarray:
    """The int32 vector of shape ``(dimension,)`` that :func:`write_sparse` wrote.

    Args:
        data: uint8 of shape ``(n,)``.
        nonzeros: number of its non-zero entries.
        dimension: its length.
        largest: bound of its magnitudes.

    Raises:
        PayloadError: the bits are of no such vector, or not all of them are.
    """
    levels_d = np.zeros(dimension, np.int32)
    problem, used = _read(data, nonzeros, largest, levels_d)
    if problem:
        raise PayloadError(f"elias: expected {nonzeros} of {dimension} entries, found {_PROBLEMS[problem]}")
    if -(-used // 8) != data.size:
        raise PayloadError(f"elias: expected {-(-used // 8)} bytes, found {data.size}")
    return levels_d


@numba.njit(inline="always")
def _omega(number):  # type: ignore[no-untyped-def]
    """Code and its length in bits of a number of at least 1 and below 2^32."""
    code, length = np.uint64(0), 1
    while number > 1:
        bits = 0
        while number >> bits:
            bits += 1
        code |= np.uint64(number) << np.uint64(length)
        length += bits
        number = bits - 1
    return code, length


@numba.njit(cache=True)
def _count_bits(gaps, values):  # type: ignore[no-untyped-def]
    total = 0
    for i in range(gaps.size):
        total += _omega(gaps[i])[1] + 1 + _omega(abs(values[i]))[1]
    return total


@numba.njit(cache=True)
def _write(gaps, values, out):  # type: ignore[no-untyped-def]
    held, held_bits, position = np.uint64(0), 0, 0  # fewer than 8 bits between two codes
    for i in range(gaps.size):
        for part in range(3):
            if part == 0:
                code, length = _omega(gaps[i])
            elif part == 1:
                code, length = np.uint64(values[i] < 0), 1
            else:
                code, length = _omega(abs(values[i]))
            held = (held << np.uint64(length)) | code
            held_bits += length
            while held_bits >= 8:
                held_bits -= 8
                out[position] = np.uint8((held >> np.uint64(held_bits)) & np.uint64(255))
                position += 1
    if held_bits:
        out[position] = np.uint8((held << np.uint64(8 - held_bits)) & np.uint64(255))


@numba.njit(inline="always")
def _bit(data, position):  # type: ignore[no-untyped-def]
    return (data[position >> 3] >> (7 - (position & 7))) & 1


@numba.njit
def _read_omega(data, position):  # type: ignore[no-untyped-def]
    """Number and the position after it; 0 when the bits end or the number would be 2^40 or more."""
    number, end = 1, data.size * 8
    while True:
        if position >= end:
            return 0, position
        if not _bit(data, position):
            return number, position + 1
        length = number + 1
        if length > 40 or position + length > end:
            return 0, position
        number = 0
        for _ in range(length):
            number = (number << 1) | _bit(data, position)
            position += 1


@numba.njit(cache=True)
def _read(data, nonzeros, largest, levels_d):  # type: ignore[no-untyped-def]
    """Fill the levels; return (index into _PROBLEMS, bits read)."""
    position, index = 0, -1
    for _ in range(nonzeros):
        gap, position = _read_omega(data, position)
        if gap == 0 or position >= data.size * 8:
            return 1, position
        index += gap
        if index >= levels_d.size:
            return 2, position
        negative = _bit(data, position)
        level, position = _read_omega(data, position + 1)
        if level == 0:
            return 1, position
        if level > largest:
            return 3, position
        levels_d[index] = -level if negative else level
    return 0, position
