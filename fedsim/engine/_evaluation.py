"""Evaluation of a model on some samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

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
