"""The temperature of a fitted head: what its logits are divided by before anything is trained on top of it.

Closed-form heads have logits of any size: scores between 0 and 1, or far too large in many dimensions. Training by
cross-entropy that starts there first undoes the size, at the cost of what else it could learn.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedsim.engine._types import PieceSums, total
from fedsim.heads import FittedHeadSettings
from fedsim.settings import HeadSettings

_GRID = tuple(2.0 ** (eighth / 8) for eighth in range(-80, 81))


def temperatures(head: HeadSettings) -> tuple[float, ...]:
    """Temperatures to evaluate a head with: the given one, or a grid; none for heads that are not fitted."""
    if not isinstance(head, FittedHeadSettings):
        return ()
    return _GRID if head.temperature is None else (head.temperature,)


def best_temperature(head: FittedHeadSettings, validation: list[PieceSums]) -> int:
    """The position of that with the lowest cross-entropy on validation samples; of the given one or 1 without any.

    As if one sample more had been seen with any class (the rule of succession): where all are classified correctly, the
    loss alone would fall for ever with the temperature, and nothing could be learned on top.
    """
    if validation:
        sums = total(validation, "mean")
        unseen = 1 / (sums.samples + 2)
        return int(np.argmin((1 - unseen) * np.array(sums.tempered) + unseen * np.array(sums.uniform)))
    return 0 if head.temperature is not None else _GRID.index(1.0)


def tempered(pieces: list[PieceSums], position: int) -> list[PieceSums]:
    """Evaluations of a head as they are with one of its :func:`temperatures`."""
    return [
        {name: replace(sums, loss=sums.tempered[position], tempered=(), uniform=()) for name, sums in piece.items()}
        for piece in pieces
    ]
