"""LoRA: a low-rank update of each weight matrix of the masked blocks is trained and sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.func import functional_call

from deltamask import stream_key
from fedsim.errors import ConfigError
from fedsim.methods.dense import DenseMethod, DenseSettings, FlatFunction
from fedsim.models import TaskModel
from fedsim.settings import Experiment


class LoraSettings(DenseSettings):
    """Parameters of :class:`Lora`."""

    name: str = "lora"
    rank: int = Field(4, ge=1, le=4096, description="rank r of each update")
    lora_alpha: float = Field(8.0, gt=0, le=10_000, description="the update's factor is lora_alpha / rank")
    targets: str = Field("", description="regular expression that a weight's name must contain, such as attn")

    @field_validator("targets")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"found {value!r}, allowed: a regular expression ({error})") from None
        return value


class LowRankNetwork(nn.Module):
    """A frozen network whose chosen weights W become ``W + scale * B A``; all A and B are one vector.

    Weights of more than two dimensions count as matrices of their first one by all others.

    Args:
        module: the network; it is kept, not copied, and frozen.
        names: parameters to adapt.
        rank: number of rows of A and columns of B.
        scale: factor of the update.
        key: stream of the initial A, uniform as in LoRA's code; the initial B is zero.

    Attributes:
        weights_d: the initial factors, float32 of shape ``(sum of rank * (rows + columns),)``.
    """

    weights_d: Tensor

    def __init__(self, module: nn.Module, names: list[str], rank: int, scale: float, key: int) -> None:
        super().__init__()
        self.module, self.names, self.rank, self.scale = module.requires_grad_(False), names, rank, scale
        rng = np.random.Generator(np.random.Philox(key=key))
        parts: list[np.ndarray] = []
        for weight in self._weights():
            rows, columns = weight.shape[0], weight[0].numel()
            # Kaiming's uniform initialisation with a = sqrt(5): within 1 / sqrt(columns).
            parts += [rng.uniform(-1, 1, rank * columns) / columns**0.5, np.zeros(rows * rank)]
        factors = torch.from_numpy(np.concatenate(parts).astype(np.float32))
        self.register_buffer("weights_d", factors, persistent=False)

    def forward(self, inputs: Any, weights_d: Tensor) -> Any:
        """The network's output with these factors."""
        adapted, start = {}, 0
        for name, weight in zip(self.names, self._weights(), strict=True):
            rows, columns = weight.shape[0], weight[0].numel()
            middle, end = start + self.rank * columns, start + self.rank * (columns + rows)
            a, b = weights_d[start:middle].view(self.rank, columns), weights_d[middle:end].view(rows, self.rank)
            adapted[name] = weight + self.scale * (b @ a).view(weight.shape)
            start = end
        return functional_call(self.module, adapted, (inputs,))

    def _weights(self) -> Iterator[Tensor]:
        return (self.module.get_parameter(name) for name in self.names)


class Lora(DenseMethod):
    """Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022); factors are averaged one by one.

    The mean of products is not the product of means; averaging A and B apart is what federated LoRA commonly does
    (Zhang et al., "Towards Building the Federated GPT", 2023).
    """

    name = "lora"
    summary = "low-rank updates of the masked blocks' weights, factors averaged by samples"
    Params = LoraSettings

    @classmethod
    def flatten(cls, params: LoraSettings, experiment: Experiment, model: TaskModel) -> FlatFunction:
        parameters = dict(model.network.named_parameters())
        matrices = [name for name in model.masked_names if parameters[name].ndim > 1]
        names = [name for name in matrices if re.search(params.targets, name)]
        if not names:
            known = ", ".join(matrices)
            raise ConfigError(f"method.targets: found {params.targets!r}, allowed: what one of these contains: {known}")
        key = stream_key(experiment.seed, "lora")
        return LowRankNetwork(model.network, names, params.rank, params.lora_alpha / params.rank, key)
