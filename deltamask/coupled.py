"""Coupled-difference aggregation: the global probabilities move by the clients' mean mask difference."""

from __future__ import annotations

import math

import numpy as np

from deltamask.parallel import over_indices
from deltamask.posterior import GlobalProbabilities, RoundSums, check_range

_ONE = 1 << 20  # theta lives on a lattice of 2^-20
_LARGEST_STEP = 1000  # learning rate at no momentum, so that velocities stay within int32


class CoupledDifference(GlobalProbabilities):
    """Global probabilities that each round move by the mean of ``m_k - m_g,k``, clipped to ``[clip, 1 - clip]``.

    Client k's mask and its reference mask share their uniforms, so the mean of ``m_k - m_g,k`` over them is
    ``theta_k - theta_g``: where every flip is sent, the step is unbiased given the clients' probabilities. With few
    flips its variance is of the order of ``|theta_k - theta_g| / K`` for K clients, where a mean of sampled masks has
    ``theta (1 - theta) / K``.
    Clients may be weighted. With ``momentum`` the step is a moving sum, ``v = momentum v + mean``,
    ``theta = theta + learning_rate v``, which costs no bits (as in Hsu, Qi, Brown: "Measuring the effects of
    non-identical data distribution for federated visual classification", 2019).

    A codec that adds false flips with probability e to each bit that was not sent biases a bit's difference by
    ``e (1 - 2 m_g)`` where it did not flip; that expectation is subtracted: a round's sums are those of
    ``s (m_k - m_g) - (1 - 2 m_g) [did not flip]`` with the integer ``s = (1 - e) / e``, or of the differences alone.

    Args:
        dimension: number of mask bits d.
        theta_init: probability of every bit at the start, in [clip, 1 - clip].
        clip: distance of theta from 0 and 1, in [1e-6, 0.5).
        false_positive_rate: e of the codec, 0 for exact ones.
        learning_rate: factor of the step, above 0, at most 1000 (1 - momentum).
        momentum: share of the last step that goes on, in [0, 1).

    Raises:
        ValueError: an argument is out of its range, by name.
    """

    def __init__(
        self,
        dimension: int,
        *,
        theta_init: float = 0.95,
        clip: float = 0.01,
        false_positive_rate: float = 0.0,
        learning_rate: float = 1.0,
        momentum: float = 0.0,
    ) -> None:
        super().__init__(dimension, theta_init=theta_init, clip=clip)
        check_range("false_positive_rate", false_positive_rate, 0 <= false_positive_rate < 1, "from 0 to below 1")
        check_range("momentum", momentum, 0 <= momentum < 1, "from 0 to below 1")
        largest = _LARGEST_STEP * (1 - momentum)
        allowed = f"above 0, to {largest:g} at momentum {momentum}"
        check_range("learning_rate", learning_rate, 0 < learning_rate <= largest, allowed)
        self.learning_rate, self.momentum = learning_rate, momentum
        self._exact, self._scale = not false_positive_rate, 1
        if not self._exact:
            self._scale, self.sums_dtype = round((1 - false_positive_rate) / false_positive_rate), np.dtype(np.int64)
        self._velocity_d = np.zeros(dimension if momentum else 0, np.int32)
        self.start(self.theta_d)

    def start(self, theta_d: np.ndarray) -> None:
        self._lattice_d = np.rint(theta_d * np.float32(_ONE)).astype(np.int32)
        self._place()

    def _add(self, sums_d: np.ndarray, mask_d: np.ndarray, reference_d: np.ndarray, weight: int) -> None:
        _add(sums_d.size, sums_d, mask_d, reference_d, self._scale * weight, 0 if self._exact else weight)

    @property
    def flip_size(self) -> int:
        return self._scale if self._exact else self._scale + 1

    def apply(self, observed: RoundSums) -> None:
        if observed.total:
            factor = self.learning_rate * _ONE / (self._scale * observed.total)
            # Just beyond the bounds, so that theta is clipped to them exactly.
            low, high = math.floor(self.clip * _ONE), math.ceil((1 - self.clip) * _ONE)
            self._lattice_d, self._velocity_d = self._lattice_d.copy(), self._velocity_d.copy()
            _move(
                self._lattice_d.size,
                self._lattice_d,
                self._velocity_d,
                observed.sums_d,
                factor,
                self.momentum,
                low,
                high,
            )
            self._place()

    def _place(self) -> None:
        theta_d = self._lattice_d.astype(np.float32) / np.float32(_ONE)
        self.theta_d = np.clip(theta_d, np.float32(self.clip), np.float32(1 - self.clip))

    def expected_sums(self, total: int) -> np.ndarray:
        if self._exact:
            return np.zeros(1, np.int64)
        # Where nothing flips, the sum of 1 - 2 m_g.
        return np.rint((2 * self.theta_d.astype(np.float64) - 1) * total).astype(np.int64)

    def state(self) -> dict[str, np.ndarray]:
        return {"lattice_d": self._lattice_d, "velocity_d": self._velocity_d}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self._lattice_d = np.array(state["lattice_d"], np.int32)
        self._velocity_d = np.array(state["velocity_d"], np.int32)
        self._place()


@over_indices()
def _add(start, stop, sums_d, mask_d, reference_d, flip, stay):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(start), np.uint64(stop)):
        sign = 1 - 2 * np.int64(reference_d[i])
        sums_d[i] += sign * (flip if mask_d[i] != reference_d[i] else -stay)


@over_indices()
def _move(start, stop, lattice_d, velocity_d, sums_d, factor, momentum, low, high):  # type: ignore[no-untyped-def]
    """The two products are rounded apart, so that no compiler can fuse them and every machine gets the same."""
    for i in range(np.uint64(start), np.uint64(stop)):
        step = np.int64(np.rint(sums_d[i] * factor))
        if velocity_d.size:
            step += np.int64(np.rint(velocity_d[i] * momentum))
            velocity_d[i] = step
        lattice_d[i] = min(max(lattice_d[i] + step, low), high)
