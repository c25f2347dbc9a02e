"""Evaluation of a model on some samples, and the samples that are evaluated together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fedsim.data import LoadedDataset
from fedsim.engine._types import EvaluationSums
from fedsim.methods.base import Forward
from fedsim.methods.training import autocast


@torch.no_grad()
def evaluated(
    forward: Forward,
    features: Tensor,
    labels: Tensor,
    precision: str,
    grid: Sequence[float] = (),
    *,
    by_class: bool = False,
) -> EvaluationSums:
    """Sums over samples.

    Args:
        forward: the model.
        features: prefix features of shape ``(b, ...)``.
        labels: int64 of shape ``(b,)``, on the same device.
        precision: of matrix products, as ``train.precision`` has it.
        grid: temperatures to divide the logits by, too.
        by_class: also count by class.
    """
    with autocast(precision, features.device):
        logits = forward(features).float()
    right = logits.argmax(1) == labels
    loss, tempered = _losses(logits, labels, [1.0])[0], _losses(logits, labels, grid)
    sums = EvaluationSums(len(labels), int(right.sum()), loss, tempered, _losses(logits, labels, grid, smoothing=1))
    if not by_class:
        return sums
    of_classes, correct = (
        tuple(torch.bincount(chosen, minlength=logits.shape[1]).tolist()) for chosen in (labels, labels[right])
    )
    return replace(sums, of_classes=of_classes, correct_of_classes=correct)


def _losses(logits: Tensor, labels: Tensor, grid: Sequence[float], smoothing: float = 0.0) -> tuple[float, ...]:
    """Summed cross-entropies with the logits divided by temperatures."""
    divided = (logits / temperature for temperature in grid)
    return tuple(float(F.cross_entropy(x, labels, reduction="sum", label_smoothing=smoothing)) for x in divided)


@dataclass(frozen=True)
class Piece:
    """Samples that are evaluated together.

    Attributes:
        split: what they are for.
        rows: of the test split, or, where they are for validation, of the training split.
    """

    split: Literal["test", "validation"]
    rows: np.ndarray


def evaluation_pieces(dataset: LoadedDataset, size: int) -> list[Piece]:
    """All that is evaluated, in pieces of so many samples, whoever evaluates which: test, then validation."""
    pieces = []
    for split, rows in (("test", np.arange(len(dataset.test))), ("validation", dataset.validation_rows)):
        starts = range(0, len(rows), size)
        pieces += [Piece(split, rows[start : start + size]) for start in starts]  # type: ignore[arg-type]
    return pieces
