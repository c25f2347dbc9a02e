"""Randomised Hadamard rotation in chunks of powers of two, without padding.

A vector of any length is cut into chunks of 2^15 entries and, at its end, one chunk for each binary digit of what is
left. Rotating it as a whole would need padding to a power of two, which nearly doubles the rate for most lengths. In
each chunk the signs are flipped at random, then the orthonormal Walsh-Hadamard transform is applied: entries become
nearly Gaussian, whatever the vector; scales that are unbiased under uniform rotations are so here but for chunks of a
few hundred heavy-tailed entries (Vargaftik et al., "DRIVE: One-bit Distributed Mean Estimation", NeurIPS 2021).
"""

from __future__ import annotations

import numpy as np

from deltamask import uniform_bits
from deltamask.parallel import over_indices

#: Largest chunk; it fits into a core's cache, and one float32 a chunk is 0.001 bits an entry.
CHUNK = 1 << 15


def chunk_starts(dimension: int) -> np.ndarray:
    """Starts of the chunks, int64, and after the last one ``dimension``."""
    whole, rest = divmod(dimension, CHUNK)
    sizes = [CHUNK] * whole + [1 << bit for bit in reversed(range(CHUNK.bit_length())) if rest >> bit & 1]
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])


def rotate(vector_d: np.ndarray, key: int) -> np.ndarray:
    """The rotated vector, float32 of the same shape and, chunk by chunk, of the same norm."""
    out_d = vector_d.astype(np.float32)  # a copy
    _flip(out_d.size, uniform_bits(key, out_d.size), out_d)
    starts = chunk_starts(out_d.size)
    _transform(starts.size - 1, starts, out_d)
    return out_d


def rotate_back(rotated_d: np.ndarray, key: int) -> np.ndarray:
    """The inverse of :func:`rotate` under the same key."""
    out_d = rotated_d.astype(np.float32)
    starts = chunk_starts(out_d.size)
    _transform(starts.size - 1, starts, out_d)
    _flip(out_d.size, uniform_bits(key, out_d.size), out_d)
    return out_d


def chunk_sums(values_d: np.ndarray) -> np.ndarray:
    """Sum of each chunk, float64 of shape ``(chunks,)``."""
    return np.add.reduceat(values_d, chunk_starts(values_d.size)[:-1], dtype=np.float64)


def spread(values_c: np.ndarray, dimension: int) -> np.ndarray:
    """One value a chunk, repeated for each of its entries."""
    return np.repeat(values_c, np.diff(chunk_starts(dimension)))


@over_indices()
def _flip(start, stop, bits_d, out_d):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(start), np.uint64(stop)):
        out_d[i] = -out_d[i] if bits_d[i] >> np.uint32(31) else out_d[i]


@over_indices(grain=1)
def _transform(start, stop, starts, out_d):  # type: ignore[no-untyped-def]
    """With unsigned indices: a signed one may be negative, and to look costs the loop its vector instructions."""
    for chunk in range(start, stop):
        x = out_d[starts[chunk] : starts[chunk + 1]]
        size, half = np.uint64(x.size), np.uint64(1)
        while half < size:
            for block in range(np.uint64(0), size, half + half):
                for i in range(block, block + half):
                    a, b = x[i], x[i + half]
                    x[i], x[i + half] = a + b, a - b
            half += half
        scale = np.float32(1.0 / np.sqrt(x.size))
        for i in range(size):
            x[i] *= scale
