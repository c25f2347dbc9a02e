"""Logarithms and logits of probabilities in integers, which client and server compute alike."""

from __future__ import annotations

import numba
import numpy as np

from deltamask.parallel import over_indices

#: Number of values of :func:`theta_bucket`.
THETA_BUCKETS = 24


@numba.njit(inline="always")
def log2_32(x: np.int64) -> np.int64:
    """Binary logarithm of 1 .. 2^32 in units of 1/32, linear between powers of two: the head of its float64 pattern."""
    return (np.float64(x).view(np.int64) >> 47) - (1023 << 5)


@numba.njit(inline="always")
def logit_32(x):  # type: ignore[no-untyped-def]
    """Logit to base 2 of x / 2^32, in units of 1/32; x is moved into 1 .. 2^32 - 1."""
    x = min(max(x, 1), (1 << 32) - 1)
    return log2_32(x) - log2_32((1 << 32) - x)


@numba.njit(inline="always")
def theta_bucket(logit):  # type: ignore[no-untyped-def]
    """Bucket of a theta of this :func:`logit_32`: half an octave of odds."""
    return min(max((logit >> 4) + THETA_BUCKETS // 2, 0), THETA_BUCKETS - 1)


def theta_buckets(theta_d: np.ndarray) -> np.ndarray:
    """Buckets of probabilities, float32 of shape ``(d,)``, as uint8 of shape ``(d,)``."""
    buckets_d = np.empty(theta_d.size, np.uint8)
    _buckets(theta_d.size, theta_d, buckets_d)
    return buckets_d


@over_indices()
def _buckets(start, stop, theta_d, buckets_d):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(start), np.uint64(stop)):
        buckets_d[i] = theta_bucket(logit_32(np.int64(theta_d[i] * np.float32(1 << 32))))
