"""Which mask bits changed, and which of them are worth sending."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

KappaSchedule = Literal["constant", "cosine"]


def flipped(mask_d: np.ndarray, reference_d: np.ndarray) -> np.ndarray:
    """Indices where two boolean masks of shape ``(d,)`` differ, ascending uint64 of shape ``(n,)``."""
    return np.flatnonzero(mask_d != reference_d).astype(np.uint64)


def bernoulli_kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """KL(Bern(p) || Bern(q)) in nats, elementwise, float64; ``p`` in [0, 1], ``q`` strictly between 0 and 1."""
    p, q = p.astype(np.float64), q.astype(np.float64)
    tiny = np.finfo(np.float64).tiny  # 0 log 0 = 0
    kl = p * np.log(np.maximum(p, tiny) / q) + (1 - p) * np.log(np.maximum(1 - p, tiny) / (1 - q))
    return np.asarray(kl)


def select_by_kl(indices: np.ndarray, theta_k_d: np.ndarray, theta_g_d: np.ndarray, kappa: float) -> np.ndarray:
    """Keep the share ``kappa`` of ``indices`` whose probabilities moved most (relative-entropy ranking, DeltaMask).

    Args:
        indices: ascending flipped indices, uint64 of shape ``(n,)``.
        theta_k_d: the client's probabilities, float32 of shape ``(d,)``.
        theta_g_d: the broadcast probabilities, float32 of shape ``(d,)``, strictly between 0 and 1.
        kappa: share to keep, in (0, 1].

    Returns:
        ``ceil(kappa * n)`` ascending indices. Of equally ranked ones the lower index is kept.

    Raises:
        ValueError: ``kappa`` is out of range.
    """
    if not 0 < kappa <= 1:
        raise ValueError(f"kappa: found {kappa}, allowed: above 0 and at most 1")
    keep = math.ceil(kappa * indices.size)
    if keep == indices.size:
        return indices
    kl = bernoulli_kl(theta_k_d[indices], theta_g_d[indices])
    return np.sort(indices[np.argsort(-kl, kind="stable")[:keep]])


def kappa_at(
    round_index: int, rounds: int, kappa: float, schedule: KappaSchedule = "constant", final: float = 0.1
) -> float:
    """The share to send in round ``1 <= round_index <= rounds``: ``kappa``, or its cosine decay to ``final``."""
    if schedule == "constant":
        return kappa
    progress = (round_index - 1) / max(rounds - 1, 1)
    return final + (kappa - final) * 0.5 * (1.0 + math.cos(math.pi * progress))
