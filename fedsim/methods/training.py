"""Local training at a client, the same loop for every method."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fedsim.config import TrainConfig


def make_optimizer(config: TrainConfig, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """A fresh optimiser with the configured learning rate."""
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=config.lr)
    sgd = NormalizedSGD if config.optimizer == "normalized-sgd" else torch.optim.SGD
    return sgd(parameters, lr=config.lr, momentum=config.momentum)


class NormalizedSGD(torch.optim.SGD):
    """Heavy-ball SGD whose gradient is first divided by its root mean square over all parameters.

    Adam moves every mask score by about the learning rate, whatever its gradient, so most flips are noise; this moves
    scores in proportion to their gradients, at a scale that does not depend on the loss.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; gradients are divided in place."""
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        mean_square = sum(grad.square().sum() for grad in grads) / sum(grad.numel() for grad in grads)
        for grad in grads:
            grad.div_(torch.as_tensor(mean_square).sqrt().clamp_min(torch.finfo(grad.dtype).tiny))
        return super().step(closure)


def train_steps(
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    logits: Callable[[Tensor, int], Tensor],
    penalty: Callable[[], Tensor] | None = None,
) -> float:
    """One step of cross-entropy a batch; the mean cross-entropy, nats.

    Args:
        optimizer: of the parameters that are trained.
        batches: (inputs, labels).
        logits: the model's output of shape ``(b, classes)`` from a batch's inputs and the number of the step.
        penalty: added to the loss, nats.
    """
    losses = []
    for step, (x, y) in enumerate(batches):
        loss = F.cross_entropy(logits(x, step), y)
        optimizer.zero_grad()
        (loss if penalty is None else loss + penalty()).backward()
        optimizer.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())  # waits for the device, so that a time taken after it covers the work
