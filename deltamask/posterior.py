"""Beta posterior over mask bits, its reset, and the global probabilities theta."""

from __future__ import annotations

import numpy as np


class BetaPosterior:
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
        for name, value, valid, allowed in (
            ("dimension", dimension, dimension >= 1, "at least 1"),
            ("theta_init", theta_init, clip <= theta_init <= 1 - clip, "from clip to 1 - clip"),
            ("prior", prior, prior >= 1, "at least 1"),
            ("clip", clip, 0 < clip < 0.5, "between 0 and 0.5"),
            ("reset_every", reset_every, reset_every >= 1, "at least 1"),
        ):
            if not valid:
                raise ValueError(f"{name}: found {value}, allowed: {allowed}")
        self.prior, self.clip, self.reset_every = prior, clip, reset_every
        self.theta_d = np.full(dimension, theta_init, np.float32)
        self.ones_d = np.zeros(dimension, np.int32)
        self.trials = 0
        self.rounds = 0

    def observe(self, mask_d: np.ndarray) -> None:
        """Count one client's mask, booleans of shape ``(d,)``."""
        if mask_d.shape != self.ones_d.shape or mask_d.dtype != np.bool_:
            raise ValueError(f"mask_d: expected bool {self.ones_d.shape}, found {mask_d.dtype} {mask_d.shape}")
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

    def bound_share(self) -> float:
        """Share of theta that lies at its clipping bounds: near 1 means that learning has stopped."""
        low, high = np.float32(self.clip), np.float32(1.0 - self.clip)
        return float(np.mean((self.theta_d <= low) | (self.theta_d >= high)))

    def state(self) -> dict[str, np.ndarray]:
        """Everything that must survive a crash, as arrays."""
        return {
            "theta_d": self.theta_d,
            "ones_d": self.ones_d,
            "counters": np.array([self.trials, self.rounds], np.int64),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take back what :meth:`state` gave."""
        self.theta_d = np.array(state["theta_d"], np.float32)
        self.ones_d = np.array(state["ones_d"], np.int32)
        self.trials, self.rounds = (int(value) for value in state["counters"])
