"""Beta posterior over mask bits, its reset, and the global probabilities theta."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np


class GlobalProbabilities(ABC):
    """The server's probabilities theta of ``d`` mask bits, which each round's masks change.

    Args:
        dimension: number of mask bits d.
        theta_init: probability of every bit before the first observation, in [clip, 1 - clip].
        clip: distance of theta from 0 and 1, in (0, 0.5).

    Attributes:
        theta_d: the probabilities, float32 of shape ``(d,)``.

    Raises:
        ValueError: an argument is out of its range, by name.
    """

    def __init__(self, dimension: int, *, theta_init: float, clip: float) -> None:
        check_range("dimension", dimension, dimension >= 1, "at least 1")
        check_range("theta_init", theta_init, clip <= theta_init <= 1 - clip, "from clip to 1 - clip")
        check_range("clip", clip, 0 < clip < 0.5, "between 0 and 0.5")
        self.clip = clip
        self.theta_d = np.full(dimension, theta_init, np.float32)

    @abstractmethod
    def observe(self, mask_d: np.ndarray, reference_d: np.ndarray) -> None:
        """Count one client's mask beside its reference mask, booleans of shape ``(d,)``."""

    @abstractmethod
    def step(self) -> None:
        """End a round: recompute theta."""

    def bound_share(self) -> float:
        """Share of theta that lies at its clipping bounds: near 1 means that learning has stopped."""
        low, high = np.float32(self.clip), np.float32(1.0 - self.clip)
        return float(np.mean((self.theta_d <= low) | (self.theta_d >= high)))

    def state(self) -> dict[str, np.ndarray]:
        """Everything that must survive a crash between two rounds, as arrays."""
        return {"theta_d": self.theta_d}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take back what :meth:`state` gave."""
        self.theta_d = np.array(state["theta_d"], np.float32)

    def _check(self, **masks_d: np.ndarray) -> None:
        for name, mask_d in masks_d.items():
            if mask_d.shape != self.theta_d.shape or mask_d.dtype != np.bool_:
                raise ValueError(f"{name}: expected bool {self.theta_d.shape}, found {mask_d.dtype} {mask_d.shape}")


def check_range(name: str, value: float, valid: bool, allowed: str) -> None:
    """Raise ValueError, which names the argument, unless it is valid."""
    if not valid:
        raise ValueError(f"{name}: found {value}, allowed: {allowed}")


class BetaPosterior(GlobalProbabilities):
    """Beta-Bernoulli posterior over ``d`` mask bits (FedPM, Isik et al., ICLR 2023, section 3; DeltaMask, section 3).

    A round observes the masks of its clients, unweighted by client size, then :meth:`step` sets
    ``theta = (alpha - 1) / (alpha + beta - 2)`` (the mode), clipped to ``[clip, 1 - clip]``. With
    ``alpha = prior + ones`` and ``beta = prior + trials - ones`` the state is integers, so the order of observation
    cannot change a result.

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
        self.rounds = 0

    def observe(self, mask_d: np.ndarray, reference_d: np.ndarray | None = None) -> None:
        """Count one client's mask, booleans of shape ``(d,)``; its reference mask does not matter."""
        self._check(mask_d=mask_d)
        self.ones_d += mask_d
        self.trials += 1

    def step(self) -> None:
        """End a round: recompute theta from the counts and return to the prior when the reset is due."""
        if self.trials:
            mode_d = (self.ones_d + (self.prior - 1.0)) / (self.trials + 2.0 * (self.prior - 1.0))
            np.clip(mode_d, self.clip, 1.0 - self.clip, out=mode_d)
            self.theta_d = mode_d.astype(np.float32)
        self.rounds += 1
        if self.rounds % self.reset_every == 0:
            self.ones_d[:] = 0
            self.trials = 0

    def state(self) -> dict[str, np.ndarray]:
        return {
            **super().state(),
            "ones_d": self.ones_d,
            "counters": np.array([self.trials, self.rounds], np.int64),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        super().restore(state)
        self.ones_d = np.array(state["ones_d"], np.int32)
        self.trials, self.rounds = (int(value) for value in state["counters"])
