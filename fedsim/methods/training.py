"""Local training at a client, the same loop for every method."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from fedsim.config import TrainConfig


def make_optimizer(config: TrainConfig, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """A fresh optimiser with the configured learning rate."""
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=config.lr)
    return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum)


def train_steps(
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    logits: Callable[[Tensor, int], Tensor],
) -> float:
    """One step of cross-entropy a batch; the mean loss, nats.

    Args:
        optimizer: of the parameters that are trained.
        batches: (inputs, labels).
        logits: the model's output of shape ``(b, classes)`` from a batch's inputs and the number of the step.
    """
    losses = []
    for step, (x, y) in enumerate(batches):
        loss = F.cross_entropy(logits(x, step), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())  # waits for the device, so that a time taken after it covers the work
