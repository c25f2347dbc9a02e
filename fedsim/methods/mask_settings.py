"""Parameters that methods which train masks have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

import deltamask as dm
from fedsim.settings import Experiment, MethodSettings, unless_default


class CountedSettings(MethodSettings):
    """Parameters of methods whose server counts mask bits."""

    trim: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="share of the votes on each mask bit that is cut at either end, against hostile clients",
        json_schema_extra=unless_default,
    )

    @property
    def cut(self) -> str | None:
        return "trim" if self.trim else None

    def probabilities(self, dimension: int, participation: float) -> dm.GlobalProbabilities:
        """The keeper of the counts and of their probabilities, at its start."""
        raise NotImplementedError

    def initial(self, experiment: Experiment, dimension: int) -> dm.GlobalProbabilities:
        """The counts and their probabilities before the first round, which both sides derive from the configuration."""
        return self.probabilities(dimension, experiment.participation)


class MaskSettings(CountedSettings):
    """Parameters of methods with a Beta posterior over probabilistic masks."""

    theta_init: float = Field(0.95, gt=0, lt=1, description="probability of every mask bit at the start")
    scores_init: Literal["constant", "normal"] = Field(
        "constant", description="theta_init everywhere, or sigmoid of N(0, 1), which halves pretrained weights"
    )
    forward: Literal["sampled", "expected"] = Field(
        "sampled", description="network of a training step: a mask drawn anew, or each weight times its probability"
    )
    deployed: Literal["mask", "expected"] = Field(
        "mask", description="model to keep: the mean mask theta > 0.5, or each weight times its probability"
    )
    clip: float = Field(0.01, ge=1e-6, lt=0.5, description="distance of the global probabilities from 0 and 1")
    prior: float = Field(1.0, ge=1, le=1000, description="alpha and beta of the Beta prior, lambda_0")
    reset_every: int | None = Field(
        None, ge=1, description="rounds between returns to the prior; 1 / participation when not given"
    )

    only_with: ClassVar[Mapping[str, tuple[str, tuple[Any, ...]]]] = {"theta_init": ("scores_init", ("constant",))}

    def probabilities(self, dimension: int, participation: float) -> dm.GlobalProbabilities:
        """The Beta posterior, unless a subclass knows better."""
        return dm.BetaPosterior(
            dimension,
            theta_init=self.theta_init,
            prior=self.prior,
            clip=self.clip,
            reset_every=self.reset_every or round(1 / participation),
        )

    def initial(self, experiment: Experiment, dimension: int) -> dm.GlobalProbabilities:
        probabilities = super().initial(experiment, dimension)
        if self.scores_init == "normal":
            rng = np.random.Generator(np.random.Philox(key=dm.stream_key(experiment.seed, "scores")))
            probabilities.start((1 / (1 + np.exp(-rng.standard_normal(dimension)))).astype(np.float32))
        return probabilities

    @model_validator(mode="after")
    def _reachable_start(self) -> MaskSettings:
        if self.scores_init == "constant" and not self.clip <= self.theta_init <= 1 - self.clip:
            raise ValueError(f"theta_init: found {self.theta_init}, allowed: {self.clip} to {1 - self.clip}, by clip")
        return self
