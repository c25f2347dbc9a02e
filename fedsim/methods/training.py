"""Local training at a client, the same loop for every method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deltamask import stream_key
from fedsim.methods.base import ClientTask
from fedsim.settings import TrainSettings


class LocalTraining:
    """Epochs of steps over a client's samples.

    Args:
        settings: of the training.
        seed: of the experiment; with round and client it sets the order of the samples.

    Raises:
        TypeError: there are no settings, as the method is said not to train by steps.
    """

    def __init__(self, settings: TrainSettings | None, seed: int) -> None:
        if settings is None:
            raise TypeError("train_defaults: found None, expected a mapping for a method that trains by steps")
        self._settings, self._seed = settings, seed

    def run(
        self,
        parameters: Iterable[torch.nn.Parameter],
        task: ClientTask,
        logits: Callable[[Tensor, int], Tensor],
        *,
        penalty: Callable[[], Tensor] | None = None,
        inputs: Tensor | None = None,
    ) -> float:
        """Train with a fresh optimiser; the mean cross-entropy over the steps, nats.

        Args:
            parameters: what is trained.
            task: the client's samples.
            logits: the model's output of shape ``(b, classes)`` from a batch's inputs and the number of the step.
            penalty: added to the loss, nats.
            inputs: what to draw batches of in place of the task's features.
        """
        optimizer = make_optimizer(self._settings, parameters)
        losses = []
        for step, (x, y) in enumerate(self._batches(task, task.features if inputs is None else inputs)):
            with autocast(self._settings.precision, x.device):
                loss = F.cross_entropy(self._adjusted(logits(x, step), task.labels), y)
            optimizer.zero_grad()
            (loss if penalty is None else loss + penalty()).backward()
            optimizer.step()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())  # waits for the device, so that a time taken after it covers the work

    def _adjusted(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits with the log of the client's class shares, so that few samples of a class do not unlearn it.

        Menon et al., "Long-tail learning via logit adjustment" (ICLR 2021); with the shares of each client, Zhang et
        al., "Federated Learning with Label Distribution Skew via Logits Calibration" (ICML 2022).
        """
        if self._settings.logit_adjustment is None:
            return logits
        counts = torch.bincount(labels, minlength=logits.shape[1]) + self._settings.logit_adjustment
        return logits + (counts / counts.sum()).log()

    def _batches(self, task: ClientTask, inputs: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for epoch in range(self._settings.epochs):
            key = stream_key(self._seed, "batches", task.round, task.client, epoch)
            order = np.random.Generator(np.random.Philox(key=key)).permutation(len(task.labels))
            for chosen in torch.from_numpy(order).to(inputs.device).split(self._settings.batch_size):
                yield inputs[chosen], task.labels[chosen]


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """A context that computes matrix products in ``train.precision``; tf32 is a property of the process."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def make_optimizer(settings: TrainSettings, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """A fresh optimiser with the learning rate of the settings."""
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=settings.lr, fused=True)
    sgd = NormalizedSGD if settings.optimizer == "normalized-sgd" else torch.optim.SGD
    return sgd(parameters, lr=settings.lr, momentum=settings.momentum)


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
