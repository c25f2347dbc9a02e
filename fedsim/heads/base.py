"""The interface of heads: their fitting is a phase of one round, before the method's."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from fedsim.methods.phase import Phase
from fedsim.settings import Experiment, HeadSettings, Settings


class FittedHeadSettings(HeadSettings):
    """Keys of heads that are fitted in round 0 and frozen then."""

    participation: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of clients that fit the head in round 0; that of other rounds when not given",
    )
    temperature: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="divides the head's logits; of least loss on validation samples when not given, 1 without any",
    )


class Head(Phase):
    """A way to get the classifier head in round 0; registered in :mod:`fedsim.heads`."""

    Params: ClassVar[type[Settings]] = HeadSettings
    #: Whether the method trains the head together with the blocks.
    joint: ClassVar[bool] = False

    @classmethod
    def passes(cls, params: Any, experiment: Experiment, samples: int) -> float:
        """One pass gives the embeddings; what follows on them is little."""
        return float(samples)
