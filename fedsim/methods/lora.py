"""LoRA: a low-rank update of each weight matrix of the masked blocks is trained and sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from deltamask import stream_key
from fedsim.methods.adapters import AdaptedNetwork, AdapterSettings
from fedsim.methods.dense import DenseMethod, DenseSettings
from fedsim.methods.updates import FlatFunction
from fedsim.models import TaskModel
from fedsim.settings import Experiment


class LowRankSettings(AdapterSettings):
    """Parameters of methods that train factors of low rank."""

    lora_alpha: float = Field(8.0, gt=0, le=10_000, description="the update's factor is lora_alpha / rank")


class LoraSettings(LowRankSettings, DenseSettings):
    """Parameters of :class:`Lora`."""

    name: str = "lora"


class LowRankNetwork(AdaptedNetwork):
    """A frozen network whose chosen weights W become ``W + scale * B A``; all A and B are one vector.

    Args:
        module, names: as of :class:`AdaptedNetwork`.
        rank: number of rows of A and columns of B.
        scale: factor of the update.
        key: stream of the initial A, uniform as in LoRA's code; the initial B is zero.

    Attributes:
        weights_d: the initial factors, float32 of shape ``(sum of rank * (rows + columns),)``.
    """

    def __init__(self, module: nn.Module, names: list[str], rank: int, scale: float, key: int) -> None:
        super().__init__(module, names)
        self.rank, self.scale = rank, scale
        rng = np.random.Generator(np.random.Philox(key=key))
        parts: list[np.ndarray] = []
        for rows, columns in self.shapes:
            # Kaiming's uniform initialisation with a = sqrt(5): within 1 / sqrt(columns).
            parts += [rng.uniform(-1, 1, rank * columns) / columns**0.5, np.zeros(rows * rank)]
        factors = torch.from_numpy(np.concatenate(parts).astype(np.float32))
        self.register_buffer("weights_d", factors, persistent=False)

    def factors(self, weights_d: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """A of shape ``(rank, columns)`` and B of shape ``(rows, rank)`` of each weight."""
        parts = iter(weights_d.split([self.rank * size for rows, columns in self.shapes for size in (columns, rows)]))
        for (rows, columns), a, b in zip(self.shapes, parts, parts, strict=True):
            yield a.view(self.rank, columns), b.view(rows, self.rank)

    def changes(self, weights_d: Tensor) -> Iterator[Tensor]:
        return (self.scale * (b @ a) for a, b in self.factors(weights_d))


class Lora(DenseMethod):
    """Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022); factors are averaged one by one.

    The mean of products is not the product of means; averaging A and B apart is what federated LoRA commonly does
    (Zhang et al., "Towards Building the Federated GPT", 2023).
    """

    name = "lora"
    summary = "low-rank updates of the masked blocks' weights, factors averaged by samples"
    Params: ClassVar[type[LowRankSettings]] = LoraSettings
    #: How the network follows from the vector.
    Network: ClassVar[type[LowRankNetwork]] = LowRankNetwork

    @classmethod
    def flatten(cls, params: LowRankSettings, experiment: Experiment, model: TaskModel) -> FlatFunction:
        scale, key = params.lora_alpha / params.rank, stream_key(experiment.seed, "lora")
        return cls.Network(model.network, params.names(model), params.rank, scale, key)
