"""Selection: mask bits that changed, and those of them that are worth sending."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

KappaSchedule = Literal["constant", "cosine"]
Selection = Literal["kl", "gain-per-bit", "random"]


def flipped(mask_d: np.ndarray, reference_d: np.ndarray) -> np.ndarray:
    """Indices where two boolean masks of shape ``(d,)`` differ, ascending uint64 of shape ``(n,)``."""
    return np.flatnonzero(mask_d != reference_d).astype(np.uint64)


def bernoulli_kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """KL(Bern(p) || Bern(q)) in nats, elementwise, float64; ``p`` in [0, 1], ``q`` strictly between 0 and 1."""
    p, q = p.astype(np.float64), q.astype(np.float64)
    tiny = np.finfo(np.float64).tiny  # 0 log 0 = 0
    kl = p * np.log(np.maximum(p, tiny) / q) + (1 - p) * np.log(np.maximum(1 - p, tiny) / (1 - q))
    return np.asarray(kl)


def select(indices: np.ndarray, gains: np.ndarray, kappa: float, most: int | None = None) -> np.ndarray:
    """Keep the share ``kappa`` of ``indices`` that gains most; by relative entropy, this is DeltaMask's ranking.

    Args:
        indices: ascending flipped indices, uint64 of shape ``(n,)``.
        gains: what each is worth, float64 of shape ``(n,)``.
        kappa: share to keep, in (0, 1].
        most: largest number to keep; None: any.

    Returns:
        ``ceil(kappa * n)`` ascending indices, at most ``most``. Of equally ranked ones the lower index is kept.

    Raises:
        ValueError: ``kappa`` is out of range.
    """
    if not 0 < kappa <= 1:
        raise ValueError(f"kappa: found {kappa}, allowed: above 0 and at most 1")
    keep = math.ceil(kappa * indices.size)
    keep = keep if most is None else min(keep, most)
    if keep == indices.size:
        return indices
    least = np.partition(gains, -keep)[-keep]
    kept = gains > least
    kept[np.flatnonzero(gains == least)[: keep - np.count_nonzero(kept)]] = True
    return indices[kept]


def kappa_at(
    round_index: int, rounds: int, kappa: float, schedule: KappaSchedule = "constant", final: float = 0.1
) -> float:
    """The share to send in round ``1 <= round_index <= rounds``: ``kappa``, or its cosine decay to ``final``."""
    if schedule == "constant":
        return kappa
    progress = (round_index - 1) / max(rounds - 1, 1)
    return final + (kappa - final) * 0.5 * (1.0 + math.cos(math.pi * progress))
