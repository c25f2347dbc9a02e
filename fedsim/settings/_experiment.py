"""The little that a method may know of an experiment."""

from __future__ import annotations

from typing import Protocol

from fedsim.settings._groups import TrainSettings
from fedsim.settings._privacy import PrivacySettings


class Experiment(Protocol):
    """Values that methods read beside their own parameters; :class:`fedsim.Config` is one."""

    @property
    def seed(self) -> int:
        """Seed of everything random."""

    @property
    def rounds(self) -> int:
        """Number of training rounds, after the head's round 0."""

    @property
    def participation(self) -> float:
        """Share of the clients in each round's cohort."""

    @property
    def train(self) -> TrainSettings | None:
        """Local training at a client; None for a method that does not train by steps."""

    @property
    def privacy(self) -> PrivacySettings:
        """Clipping and noise of differential privacy."""
