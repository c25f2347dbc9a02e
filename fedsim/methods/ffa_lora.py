"""FFA-LoRA: of each low-rank update B A only B is trained and sent; A stays as it was drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedsim.methods.lora import Lora, LoraSettings, LowRankNetwork, LowRankSettings


class FfaLoraSettings(LoraSettings):
    """Parameters of :class:`FfaLora`."""

    name: str = "ffa-lora"


class FrozenANetwork(LowRankNetwork):
    """A frozen network whose chosen weights W become ``W + scale * B A``; all B are one vector.

    Arguments are those of :class:`LowRankNetwork`, as is the frozen A.

    Attributes:
        weights_d: the initial B, zeros: float32 of shape ``(sum of rank * rows,)``.
    """

    initial_d: Tensor

    def __init__(self, module: nn.Module, names: list[str], rank: int, scale: float, key: int) -> None:
        super().__init__(module, names, rank, scale, key)
        self.register_buffer("initial_d", self.weights_d, persistent=False)
        self.weights_d = torch.zeros(rank * sum(rows for rows, _ in self.shapes))

    def factors(self, weights_d: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        parts = weights_d.split([self.rank * rows for rows, _ in self.shapes])
        for (a, b), part in zip(super().factors(self.initial_d), parts, strict=True):
            yield a, part.view(b.shape)


class FfaLora(Lora):
    """Sun et al., "Improving LoRA in Privacy-preserving Federated Learning" (ICLR 2024).

    With one A for all, derived from the seed and never sent, the mean of the clients' products ``B_k A`` is
    ``mean(B_k) A``: averaging is exact, and half of LoRA's parameters travel.
    """

    name = "ffa-lora"
    summary = "low-rank updates B A with A frozen; B averaged by samples, which is exact"
    Params: ClassVar[type[LowRankSettings]] = FfaLoraSettings
    Network: ClassVar[type[LowRankNetwork]] = FrozenANetwork
