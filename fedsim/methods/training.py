"""Local training at a client, the same loop for every method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deltamask import stream_key
from fedsim.errors import ResourceError
from fedsim.methods.base import ClientTask
from fedsim.settings import TrainSettings

#: Outputs of shape ``(b, classes)`` from inputs, and perhaps a vector of weights.
Network = Callable[..., Tensor]


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

    def compiled(self, network: Network) -> Network:
        """A network of inputs, and perhaps a vector, whose full batches are compiled where the settings say so.

        Other batches are few, and of many sizes, each of which would be compiled.
        """
        if not self._settings.compile:
            return network
        full = torch.compile(network, dynamic=False)
        return lambda x, *more: (full if len(x) == self._settings.batch_size else network)(x, *more)

    def warm_up(self, network: Callable[[Tensor], Tensor], inputs: Tensor) -> None:
        """Have a :meth:`compiled` network compiled, before there is a round, for outputs whose gradient is wanted.

        Raises:
            ResourceError: it cannot be compiled here.
        """
        if not self._settings.compile:
            return
        batch = inputs[torch.arange(self._settings.batch_size) % len(inputs)]
        try:
            with autocast(self._settings.precision, batch.device):
                network(batch).sum().backward()
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).split())[:300]
            raise ResourceError(f"train.compile: found true, allowed: false on this machine: {reason}") from error

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

    def run_together(
        self,
        start_d: Tensor,
        tasks: Sequence[ClientTask],
        logits: Callable[[Tensor, Tensor, int], Tensor],
        *,
        penalty: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, list[float]]:
        """Train a copy of a vector for each of at most ``train.together`` clients, at once.

        All batches are padded to ``batch_size`` samples and all groups to ``together`` clients, so that each product
        has one shape and what comes of a client does not depend on the others.

        Args:
            start_d: where the vectors start, of shape ``(d,)``.
            tasks: samples of the clients.
            logits: outputs of shape ``(together, batch_size, classes)`` from inputs, vectors of shape
                ``(together, d)`` and the number of the step.
            penalty: the sum of what is added to the losses, from the vectors.

        Returns:
            The trained vectors, of shape ``(len(tasks), d)``, and the mean cross-entropy of each client.
        """
        device, width = start_d.device, self._settings.batch_size
        steps = [self._settings.epochs * -(-len(task.labels) // width) for task in tasks]
        samples, shares = (torch.from_numpy(array).to(device) for array in self._padded(tasks, max(steps)))
        inputs, targets = torch.cat([task.features for task in tasks]), torch.cat([task.labels for task in tasks])
        vectors = start_d.detach().repeat(self._settings.together, 1).requires_grad_()
        rows = [nn.Parameter(row) for row in vectors.detach()]
        optimizer = make_optimizer(self._settings, [{"params": [row]} for row in rows])
        sums = torch.zeros(self._settings.together, device=device)
        for step in range(max(steps)):
            with autocast(self._settings.precision, device):
                output = logits(inputs[samples[step]], vectors, step)
                if self._settings.logit_adjustment is not None:
                    adjusted = [self._adjusted(*pair) for pair in zip(output, (t.labels for t in tasks), strict=False)]
                    output = torch.stack([*adjusted, *output[len(tasks) :]])
                losses = F.cross_entropy(output.flatten(0, 1), targets[samples[step]].flatten(), reduction="none")
                of_clients = (losses.view_as(shares[step]) * shares[step]).sum(1)
            total = of_clients.sum() if penalty is None else of_clients.sum() + penalty(vectors)
            [gradients] = torch.autograd.grad(total, vectors)
            for row, gradient, own in zip(rows, gradients, steps, strict=False):
                row.grad = gradient if step < own else None  # whoever has done its steps stays as it is
            optimizer.step()
            sums += of_clients.detach()
        means = sums[: len(tasks)].cpu() / torch.tensor(steps)
        return vectors.detach()[: len(tasks)], means.tolist()

    def _padded(self, tasks: Sequence[ClientTask], steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of samples among those of all tasks, and shares in a client's loss: ``(steps, together, b)``."""
        width, first = self._settings.batch_size, 0
        samples = np.zeros((self._settings.together, steps, width), np.int64)
        shares = np.zeros((self._settings.together, steps, width), np.float32)
        for task, of_client, share in zip(tasks, samples, shares, strict=False):
            count = len(task.labels)
            batches = -(-count // width)
            for epoch, order in enumerate(self._orders(task)):
                rows = slice(epoch * batches, (epoch + 1) * batches)
                of_client[rows].reshape(-1)[:count] = first + order
                share[rows].reshape(-1)[:count] = 1 / width
                share[rows][-1, : count - (batches - 1) * width] = 1 / (count - (batches - 1) * width)
            first += count
        return np.ascontiguousarray(samples.swapaxes(0, 1)), np.ascontiguousarray(shares.swapaxes(0, 1))

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
        for order in self._orders(task):
            for chosen in torch.from_numpy(order).to(inputs.device).split(self._settings.batch_size):
                yield inputs[chosen], task.labels[chosen]

    def _orders(self, task: ClientTask) -> Iterator[np.ndarray]:
        """The order of a client's samples in each epoch."""
        for epoch in range(self._settings.epochs):
            key = stream_key(self._seed, "batches", task.round, task.client, epoch)
            yield np.random.Generator(np.random.Philox(key=key)).permutation(len(task.labels))


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """A context that computes matrix products in ``train.precision``; tf32 is a property of the process."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def make_optimizer(settings: TrainSettings, parameters: Iterable[Any]) -> torch.optim.Optimizer:
    """A fresh optimiser of parameters, or of groups of them, with the learning rate of the settings."""
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=settings.lr, fused=True)
    sgd = NormalizedSGD if settings.optimizer == "normalized-sgd" else torch.optim.SGD
    return sgd(parameters, lr=settings.lr, momentum=settings.momentum)


class NormalizedSGD(torch.optim.SGD):
    """Heavy-ball SGD whose gradient is first divided by its root mean square over all parameters of its group.

    Adam moves every mask score by about the learning rate, whatever its gradient, so most flips are noise; this moves
    scores in proportion to their gradients, at a scale that does not depend on the loss.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; gradients are divided in place."""
        for group in self.param_groups:
            grads = [p.grad for p in group["params"] if p.grad is not None]
            squares = [grad.square().sum() / sum(grad.numel() for grad in grads) for grad in grads]
            for grad in grads:
                grad.div_(torch.stack(squares).sum().sqrt().clamp_min(torch.finfo(grad.dtype).tiny))
        return super().step(closure)
