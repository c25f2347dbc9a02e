"""Coupled-difference aggregation: the global probabilities move by the clients' mean mask difference."""

from __future__ import annotations

import numpy as np

from deltamask.posterior import GlobalProbabilities, check_range


class CoupledDifference(GlobalProbabilities):
    """Global probabilities that each round add the mean of ``m_k - m_g,k``, then are clipped to ``[clip, 1 - clip]``.

    Client k's mask and its reference mask share their uniforms, so the mean of ``m_k - m_g,k`` over them is
    ``theta_k - theta_g``: the step is unbiased given the clients' probabilities. With few flips its variance is of the
    order of ``|theta_k - theta_g| / K`` for K clients, where a mean of sampled masks has ``theta (1 - theta) / K``.

    A codec that adds false flips with probability e to each bit that was not sent biases a bit's difference by
    ``e (1 - 2 m_g)`` where it did not flip; that expectation is subtracted. The sums are integers, so the order of
    observation cannot change a result.

    Args:
        dimension: number of mask bits d.
        theta_init: probability of every bit at the start, in [clip, 1 - clip].
        clip: distance of theta from 0 and 1, in (0, 0.5).
        false_positive_rate: e of the codec, 0 for exact ones.

    Raises:
        ValueError: an argument is out of its range, by name.
    """

    def __init__(
        self, dimension: int, *, theta_init: float = 0.95, clip: float = 0.01, false_positive_rate: float = 0.0
    ) -> None:
        super().__init__(dimension, theta_init=theta_init, clip=clip)
        check_range("false_positive_rate", false_positive_rate, 0 <= false_positive_rate < 1, "from 0 to below 1")
        self.false_positive_rate = false_positive_rate
        self._begin()

    def _begin(self) -> None:
        self._differences_d = np.zeros(self.theta_d.size, np.int32)
        self._kept_d = np.zeros(self.theta_d.size, np.int32)
        self._clients = 0

    def observe(self, mask_d: np.ndarray, reference_d: np.ndarray) -> None:
        self._check(mask_d=mask_d, reference_d=reference_d)
        self._differences_d += mask_d.view(np.int8) - reference_d.view(np.int8)
        if self.false_positive_rate:
            # 1 - 2 m_g where nothing flipped
            self._kept_d += np.where(mask_d == reference_d, 1 - 2 * reference_d.view(np.int8), 0)
        self._clients += 1

    def step(self) -> None:
        if self._clients:
            # E[kept] holds 1 - e of the bits that truly stayed.
            expected_d = self.false_positive_rate / (1 - self.false_positive_rate) * self._kept_d
            theta_d = self.theta_d + (self._differences_d - expected_d) / self._clients
            self.theta_d = np.clip(theta_d, self.clip, 1 - self.clip).astype(np.float32)
        self._begin()
