"""Adaptive binary range coder: numba primitives that kernels inline, and its words as bytes.

A bit is coded with a chance, the probability of a one in units of 2^-24, which both sides compute alike: all arithmetic
is on integers. The encoder's state is (low, width, used), with 64-bit low and width and the number of words written;
the decoder's is (code, width, position). Carries go back into the words (Martin, "Range encoding", 1979).
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np

from deltamask.payload import PayloadError

ONE = 1 << 24
_SLOWEST = 4096  # a chance is the mean over about so many of its last bits
_RATES = (1 << 24) // (np.arange(_SLOWEST, dtype=np.int64) + 2)


def write_words(kernel: Callable[[np.ndarray], int], room: int) -> bytes:
    """Bytes of what ``kernel(words)`` writes into uint32 words; it returns how many, or more than fit and gives up.

    Args:
        kernel: the encoder; it is called again with more room when there was too little.
        room: words to begin with.
    """
    words = np.empty(room, np.uint32)
    while (used := kernel(words)) > words.size:
        words = np.empty(2 * words.size, np.uint32)
    return words[:used].astype(">u4").tobytes()


def read_words(what: str, data: bytes | memoryview, kernel: Callable[[np.ndarray], int]) -> None:
    """Have ``kernel(words)`` decode uint32 words; it returns how many its encoder wrote.

    Raises:
        PayloadError: these are not words, or not so many.
    """
    if len(data) % 4:
        raise PayloadError(f"{what}: expected words of 4 bytes, found {len(data)} bytes")
    words = np.frombuffer(data, ">u4").astype(np.uint32)
    if (used := kernel(words)) != words.size:
        raise PayloadError(f"{what}: expected {used} words, found {words.size}")


@numba.njit(inline="always")
def adapt(chances, counts, context, bit):  # type: ignore[no-untyped-def]
    """Move a context's chance towards what was seen; it stays within 1 .. 2^24 - 1."""
    target = ONE - 1 if bit else 1
    chances[context] += ((target - chances[context]) * _RATES[counts[context]]) >> 24
    if counts[context] < _SLOWEST - 1:
        counts[context] += 1


@numba.njit(inline="always")
def begin_encoding():  # type: ignore[no-untyped-def]
    """State before the first bit."""
    return np.uint64(0), ~np.uint64(0), 0


@numba.njit(inline="always")
def encode_bit(low, width, used, words, chance, bit):  # type: ignore[no-untyped-def]
    """State after one more bit, which takes at most one word: the caller sees to it that there is room for two."""
    bound = (width >> np.uint64(24)) * np.uint64(chance)
    if bit:
        width = bound
    else:
        low += bound
        width -= bound
        if low < bound:
            _carry(words, used)
    while width <= np.uint64(0xFFFFFFFF):
        words[used] = np.uint32(low >> np.uint64(32))
        used += 1
        low <<= np.uint64(32)
        width <<= np.uint64(32)
    return low, width, used


@numba.njit(inline="always")
def finish_encoding(low, used, words):  # type: ignore[no-untyped-def]
    """Write the shortest number in [low, low + width): the decoder reads zeros after it. Returns the words needed."""
    last = low + np.uint64(0xFFFFFFFF)
    if last < low:
        _carry(words, used)
    words[used] = np.uint32(last >> np.uint64(32))
    return used + 1


@numba.njit(inline="always")
def _carry(words, used):  # type: ignore[no-untyped-def]
    while True:
        used -= 1
        words[used] += np.uint32(1)
        if words[used]:
            break


@numba.njit(inline="always")
def begin_decoding(words):  # type: ignore[no-untyped-def]
    """State before the first bit."""
    code, position = np.uint64(0), 0
    for _ in range(2):
        code = (code << np.uint64(32)) | (np.uint64(words[position]) if position < words.size else np.uint64(0))
        position += 1
    return code, ~np.uint64(0), position


@numba.njit(inline="always")
def decode_bit(state, words, chance):  # type: ignore[no-untyped-def]
    """The next bit, and the state after it."""
    code, width, position = state
    bound = (width >> np.uint64(24)) * np.uint64(chance)
    bit = code < bound
    if bit:
        width = bound
    else:
        code -= bound
        width -= bound
    while width <= np.uint64(0xFFFFFFFF):
        code = (code << np.uint64(32)) | (np.uint64(words[position]) if position < words.size else np.uint64(0))
        position += 1
        width <<= np.uint64(32)
    return bit, (code, width, position)


@numba.njit(inline="always")
def finish_decoding(state):  # type: ignore[no-untyped-def]
    """Number of words that the encoder wrote."""
    return state[2] - 1
