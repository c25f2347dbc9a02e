"""Local training whose steps are differentially private of each sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from deltamask import stream_key
from fedsim.errors import ConfigError
from fedsim.methods.base import ClientTask
from fedsim.methods.privacy import gaussian
from fedsim.methods.training import Network, autocast, make_optimizer
from fedsim.settings import PrivacySettings, TrainSettings

_HELD = 1 << 26  # entries of samples' gradients that are held at once, 256 MB


def sampling(settings: TrainSettings, samples: int) -> tuple[float, int]:
    """The rate at which a step draws each of a client's samples, and its steps in a round.

    A step draws ``batch_size`` samples on average, and there are as many steps as without privacy.
    """
    return min(1.0, settings.batch_size / samples), settings.epochs * -(-samples // settings.batch_size)


class PrivateTraining:
    """DP-SGD over a client's samples (Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, algorithm 1).

    A step draws each sample by itself, at the same rate (Poisson sampling, which accounting assumes), clips the
    gradient of each to the L2 norm C, adds N(0, (noise C)^2) to every entry of their sum, divides it by the mean
    number of samples, and gives it to the optimiser.

    Args:
        settings: of the training.
        privacy: its ``clip`` and ``noise``.
        seed: of the experiment; with round and client it sets samples and noise.
    """

    def __init__(self, settings: TrainSettings, privacy: PrivacySettings, seed: int) -> None:
        assert privacy.clip is not None
        self._settings, self._clip, self._noise, self._seed = settings, privacy.clip, privacy.noise, seed

    def run(
        self,
        trained_d: nn.Parameter,
        task: ClientTask,
        network: Network,
        at: Callable[[int], tuple[Tensor, Tensor | None]],
        *,
        penalty: Callable[[], Tensor] | None = None,
    ) -> float:
        """Train a vector with a fresh optimiser; the mean cross-entropy over all drawn samples, nats, without noise.

        Args:
            trained_d: float32 of shape ``(d,)``.
            task: the client's samples.
            network: outputs of shape ``(b, classes)`` from inputs and a vector.
            at: the network's vector in a step, of shape ``(d,)``, and the derivative of each of its entries by that of
                ``trained_d``; None where it is ``trained_d`` itself.
            penalty: added to the loss, nats; it must not depend on the samples.

        Raises:
            ConfigError: the network has an operation that :func:`torch.func.vmap` cannot apply sample by sample.
        """
        optimizer = make_optimizer(self._settings, [trained_d])
        rate, _ = sampling(self._settings, len(task.labels))
        deviation, losses, count = self._clip * self._noise, torch.zeros((), device=trained_d.device), 0
        for step, chosen in enumerate(self._drawn(task)):
            vector_d, slope_d = at(step)
            # Fused attention has no rule for samples one by one.
            with autocast(self._settings.precision, trained_d.device), sdpa_kernel(SDPBackend.MATH):
                sum_d, loss = self._clipped_sum(
                    network, vector_d.detach(), slope_d, task.features[chosen], task.labels[chosen]
                )
            noise_d = gaussian(stream_key(self._seed, "noise", task.round, task.client, step), trained_d.numel())
            sum_d += torch.from_numpy(deviation * noise_d).to(sum_d)
            trained_d.grad = sum_d / (rate * len(task.labels))
            if penalty is not None:
                trained_d.grad += torch.autograd.grad(penalty(), trained_d)[0]
            optimizer.step()
            losses, count = losses + loss, count + len(chosen)
        return float(losses) / max(count, 1)

    def _drawn(self, task: ClientTask) -> Iterator[Tensor]:
        """Positions of each step's samples."""
        rate, steps = sampling(self._settings, len(task.labels))
        key = stream_key(self._seed, "drawn", task.round, task.client)
        rng = np.random.Generator(np.random.Philox(key=key))
        for _ in range(steps):
            yield torch.from_numpy(np.flatnonzero(rng.random(len(task.labels)) < rate)).to(task.labels.device)

    def _clipped_sum(
        self, network: Network, vector_d: Tensor, slope_d: Tensor | None, inputs: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The sum of the samples' clipped gradients, and of their losses; gradients are held a part at a time."""

        def loss(vector_d: Tensor, x: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(network(x.unsqueeze(0), vector_d), y.unsqueeze(0))

        of_samples = torch.func.vmap(torch.func.grad_and_value(loss), in_dims=(None, 0, 0))
        size = max(1, _HELD // vector_d.numel())
        sum_d, losses = torch.zeros_like(vector_d), torch.zeros((), device=vector_d.device)
        for start in range(0, len(labels), size):
            try:
                gradients, values = of_samples(vector_d, inputs[start : start + size], labels[start : start + size])
            except RuntimeError as error:
                if "vmap" not in str(error):
                    raise
                reason = " ".join(str(error).split())[:300]
                raise ConfigError(
                    f"privacy.clip: found {self._clip}, allowed: null for this model: {reason}"
                ) from error
            if slope_d is not None:
                gradients = gradients.mul_(slope_d)
            sum_d += (self._clip / gradients.norm(dim=1).clamp_min(self._clip)) @ gradients
            losses = losses + values.detach().sum()
        return sum_d, losses


def private_training(settings: TrainSettings | None, privacy: PrivacySettings, seed: int) -> PrivateTraining | None:
    """The training of an experiment whose settings clip samples' gradients; None of others."""
    return None if settings is None or privacy.clip is None else PrivateTraining(settings, privacy, seed)
