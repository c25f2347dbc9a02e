"""Aggregates that a few hostile clients cannot move far: each entry is cut at both ends of what the clients sent.

Yin, Chen, Ramchandran, Bartlett: "Byzantine-Robust Distributed Learning: Towards Optimal Statistical
Rates" (ICML 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import stats

import deltamask as dm

_BLOCK = 1 << 16  # entries at once, so that what is sorted stays small


def robust_mean(
    vectors: Sequence[np.ndarray], aggregation: Literal["trimmed-mean", "median"], trim: float
) -> np.ndarray:
    """The trimmed mean or the median of each entry of vectors, float32 of shape ``(n,)``; all count alike.

    ``trim`` is the share of the vectors that is cut at either end, rounded down to whole vectors.
    """
    result_d = np.empty_like(vectors[0])
    for start in range(0, result_d.size, _BLOCK):
        block = np.stack([vector_d[start : start + _BLOCK] for vector_d in vectors])
        if aggregation == "median":
            result_d[start : start + _BLOCK] = np.median(block, axis=0)
        else:
            result_d[start : start + _BLOCK] = stats.trim_mean(block.astype(np.float64), trim, axis=0)
    return result_d


class TrimmedVotes:
    """Votes of clients on mask bits, cut at both ends: of each bit, so many of the lowest and of the highest.

    A vote is a mask bit, or its difference from the reference mask, which is -1, 0 or 1.

    Args:
        trim: share of the votes on each bit to cut at either end, rounded down to whole votes, below 0.5.
        differences: whether votes are differences.
    """

    def __init__(self, trim: float, differences: bool) -> None:
        self._trim, self._differences = trim, differences
        self._raised_d: np.ndarray | None = None
        self._lowered_d: np.ndarray | None = None
        self._total = 0

    def observe(self, mask_d: np.ndarray, reference_d: np.ndarray) -> None:
        """Count the votes of one client."""
        if self._raised_d is None or self._lowered_d is None:
            self._raised_d, self._lowered_d = (np.zeros(mask_d.size, np.int32) for _ in range(2))
        self._raised_d += mask_d & ~reference_d if self._differences else mask_d
        if self._differences:
            self._lowered_d += reference_d & ~mask_d
        self._total += 1

    def take(self, dtype: np.dtype) -> dm.RoundSums:
        """Sums of the votes that are left, and how many these are for each bit; the next round starts empty."""
        if self._raised_d is None or self._lowered_d is None:
            raise ValueError("votes: found none, allowed: at least one")
        cut = int(self._trim * self._total)
        left = self._total - 2 * cut
        # A vote of 1 is left where more than the cut are, and at most all that are left; so is one of -1.
        sums_d = np.clip(self._raised_d - cut, 0, left) - np.clip(self._lowered_d - cut, 0, left)
        self._raised_d = self._lowered_d = None
        self._total = 0
        return dm.RoundSums(sums_d.astype(dtype), left)
