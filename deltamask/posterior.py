"""The global probabilities theta, and the Beta posterior over mask bits with its reset."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from deltamask.parallel import over_indices


@dataclass(frozen=True)
class RoundSums:
    """All that a round changes the global probabilities by.

    Attributes:
        sums_d: integers of shape ``(d,)``, summed over the clients.
        total: number of clients, or the sum of their weights.
    """

    sums_d: np.ndarray
    total: int


class GlobalProbabilities(ABC):
    """The server's probabilities theta of ``d`` mask bits, which each round's masks change.

    The whole state is integers, and a round changes it by integers. So the order of observation cannot change a result,
    and whoever has the state and gets a round's sums has the next state to the bit (:meth:`apply`).

    Args:
        dimension: number of mask bits d.
        theta_init: probability of every bit before the first observation, in [clip, 1 - clip].
        clip: distance of theta from 0 and 1, in [1e-6, 0.5).

    Attributes:
        theta_d: the probabilities, float32 of shape ``(d,)``.
        sums_dtype: type of a round's sums.

    Raises:
        ValueError: an argument is out of its range, by name.
    """

    sums_dtype: np.dtype[Any] = np.dtype(np.int32)

    def __init__(self, dimension: int, *, theta_init: float, clip: float) -> None:
        check_range("dimension", dimension, dimension >= 1, "at least 1")
        check_range("theta_init", theta_init, clip <= theta_init <= 1 - clip, "from clip to 1 - clip")
        check_range("clip", clip, 1e-6 <= clip < 0.5, "from 1e-6, which float32 tells from 0 and 1, to below 0.5")
        self.clip = clip
        self.theta_d = np.full(dimension, theta_init, np.float32)
        self._sums_d: np.ndarray | None = None
        self._total = 0

    def start(self, theta_d: np.ndarray) -> None:
        """Begin from other probabilities than ``theta_init`` everywhere: float32 of shape ``(d,)``, clipped."""
        self.theta_d = np.clip(theta_d, np.float32(self.clip), np.float32(1 - self.clip))

    def observe(self, mask_d: np.ndarray, reference_d: np.ndarray, weight: int = 1) -> None:
        """Count one client's mask beside its reference mask, booleans of shape ``(d,)``, with a weight from 1 on."""
        for name, array_d in (("mask_d", mask_d), ("reference_d", reference_d)):
            if array_d.shape != self.theta_d.shape or array_d.dtype != np.bool_:
                raise ValueError(f"{name}: expected bool {self.theta_d.shape}, found {array_d.dtype} {array_d.shape}")
        check_range("weight", weight, weight >= 1, "at least 1")
        if self._sums_d is None:
            self._sums_d = np.zeros(self.theta_d.size, self.sums_dtype)
        self._add(self._sums_d, mask_d, reference_d, weight)
        self._total += weight

    @abstractmethod
    def _add(self, sums_d: np.ndarray, mask_d: np.ndarray, reference_d: np.ndarray, weight: int) -> None:
        """Add a client's part to a round's sums."""

    @property
    def flip_size(self) -> int:
        """The change of a bit's sum where one client of weight 1 flips it."""
        return 1

    def perturb(self, noise_d: np.ndarray) -> None:
        """Add integers of shape ``(d,)`` to the sums of what was observed since the last step."""
        observed = self.round_sums
        self._sums_d = (observed.sums_d + noise_d).astype(self.sums_dtype)

    @property
    def round_sums(self) -> RoundSums:
        """Sums of what was observed since the last step."""
        sums_d = np.zeros(self.theta_d.size, self.sums_dtype) if self._sums_d is None else self._sums_d
        return RoundSums(sums_d, self._total)

    def step(self) -> None:
        """End a round: :meth:`apply` what was observed."""
        observed = self.round_sums
        self._sums_d, self._total = None, 0
        self.apply(observed)

    @abstractmethod
    def apply(self, observed: RoundSums) -> None:
        """Change theta by a round's sums, the server's own or received ones."""

    @abstractmethod
    def expected_sums(self, total: int) -> np.ndarray:
        """Integers that a round's sums are likely close to, of shape ``(d,)`` or ``(1,)``."""

    def bound_share(self) -> float:
        """Share of theta that lies at its clipping bounds: near 1 means that learning has stopped."""
        low, high = np.float32(self.clip), np.float32(1.0 - self.clip)
        return float(np.mean((self.theta_d <= low) | (self.theta_d >= high)))

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """All that must survive a crash between two rounds, as arrays of integers of shape ``(d,)`` or shorter."""

    @abstractmethod
    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take back what :meth:`state` gave, in an object that was made with the same arguments."""


def check_range(name: str, value: float, valid: bool, allowed: str) -> None:
    """Raise ValueError, which names the argument, unless it is valid."""
    if not valid:
        raise ValueError(f"{name}: found {value}, allowed: {allowed}")


class BetaPosterior(GlobalProbabilities):
    """Beta-Bernoulli posterior over ``d`` mask bits (FedPM, Isik et al., ICLR 2023, section 3; DeltaMask, section 3).

    A round observes the masks of its clients, in the papers unweighted by client size, then :meth:`step` sets
    ``theta = (alpha - 1) / (alpha + beta - 2)`` (the mode), clipped to ``[clip, 1 - clip]``, with
    ``alpha = prior + ones`` and ``beta = prior + trials - ones``. A round's sums are its ones.

    Args:
        dimension: number of mask bits d.
        theta_init: probability of every bit before the first observation, in [clip, 1 - clip].
        prior: alpha and beta of the prior (lambda_0 of the paper), at least 1.
        clip: distance of theta from 0 and 1, in (0, 0.5).
        reset_every: rounds after which the counts return to the prior, ``round(1 / participation)`` in the paper.

    Raises:
        ValueError: an argument is out of its range, by name.
    """

    def __init__(
        self,
        dimension: int,
        *,
        theta_init: float = 0.95,
        prior: float = 1.0,
        clip: float = 0.01,
        reset_every: int = 1,
    ) -> None:
        super().__init__(dimension, theta_init=theta_init, clip=clip)
        check_range("prior", prior, prior >= 1, "at least 1")
        check_range("reset_every", reset_every, reset_every >= 1, "at least 1")
        self.prior, self.reset_every = prior, reset_every
        self.ones_d = np.zeros(dimension, np.int32)
        self.trials = 0
        self._age = 0  # rounds that the counts hold

    def observe(self, mask_d: np.ndarray, reference_d: np.ndarray | None = None, weight: int = 1) -> None:
        """Count one client's mask, booleans of shape ``(d,)``; its reference mask does not matter."""
        super().observe(mask_d, mask_d if reference_d is None else reference_d, weight)

    def _add(self, sums_d: np.ndarray, mask_d: np.ndarray, reference_d: np.ndarray, weight: int) -> None:
        _add(sums_d.size, sums_d, mask_d, weight)

    def apply(self, observed: RoundSums) -> None:
        if not observed.total:
            return
        # The counts stay until the next round begins, so that theta is always a function of them.
        if self._age == self.reset_every:
            self.ones_d, self.trials, self._age = np.zeros_like(self.ones_d), 0, 0
        self.ones_d = self.ones_d + observed.sums_d.astype(np.int32)
        self.trials += observed.total
        self._age += 1
        self._recompute()

    def _recompute(self) -> None:
        mode_d = (self.ones_d + (self.prior - 1.0)) / (self.trials + 2.0 * (self.prior - 1.0))
        np.clip(mode_d, self.clip, 1.0 - self.clip, out=mode_d)
        self.theta_d = mode_d.astype(np.float32)

    def expected_sums(self, total: int) -> np.ndarray:
        expected_d = np.empty(self.theta_d.size, np.int64)
        _expected(expected_d.size, self.theta_d, total, expected_d)
        return expected_d

    def state(self) -> dict[str, np.ndarray]:
        return {"ones_d": self.ones_d, "counters": np.array([self.trials, self._age], np.int64)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.ones_d = np.array(state["ones_d"], np.int32)
        self.trials, self._age = (int(value) for value in state["counters"])
        if self.trials:
            self._recompute()


@over_indices()
def _add(start, stop, sums_d, mask_d, weight):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(start), np.uint64(stop)):
        if mask_d[i]:
            sums_d[i] += weight


@over_indices()
def _expected(start, stop, theta_d, total, expected_d):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(start), np.uint64(stop)):
        expected_d[i] = np.int64(np.rint(np.float64(theta_d[i]) * total))
