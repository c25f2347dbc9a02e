"""The interface of heads: their fitting is a phase of one round, before the method's."""

from __future__ import annotations

from typing import ClassVar

from fedsim.methods.base import Phase
from fedsim.settings import HeadSettings, Settings


class Head(Phase):
    """A way to get the classifier head in round 0; registered in :mod:`fedsim.heads`."""

    Params: ClassVar[type[Settings]] = HeadSettings
    #: Whether the method trains the head together with the blocks.
    joint: ClassVar[bool] = False
