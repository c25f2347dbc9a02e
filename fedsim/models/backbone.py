"""A frozen backbone, split where training begins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from fedsim.config import ModelConfig
from fedsim.errors import ConfigError


class Backbone(nn.Module):
    """A network in three parts: ``prefix`` (frozen), ``blocks`` (the masked ones) and ``suffix`` (frozen).

    Args:
        stem: what comes before the first block, from normalised images, float32 of shape
            ``(b, 3, input_size, input_size)``.
        blocks: all blocks, in order.
        suffix: what comes after the last block, to embeddings, float32 of shape ``(b, embedding_size)``.
        masked_blocks: how many of the last blocks are masked.
        input_size: height and width of the images, pixels.
        embedding_size: width of the embeddings.
        mean, std: normalisation of pixels in [0, 1], a value a channel.

    Raises:
        ConfigError: there are fewer than ``masked_blocks`` blocks.
    """

    def __init__(
        self,
        stem: nn.Module,
        blocks: Sequence[nn.Module],
        suffix: nn.Module,
        *,
        masked_blocks: int,
        input_size: int,
        embedding_size: int,
        mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        std: tuple[float, float, float] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__()
        if masked_blocks > len(blocks):
            raise ConfigError(f"model.masked_blocks: found {masked_blocks}, allowed: at most {len(blocks)}")
        frozen = len(blocks) - masked_blocks
        self.prefix = nn.Sequential(stem, *blocks[:frozen])
        self.blocks = nn.Sequential(*blocks[frozen:])
        self.suffix = suffix
        self.input_size, self.embedding_size = input_size, embedding_size
        self.mean, self.std = mean, std

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings of normalised images."""
        embeddings: Tensor = self.suffix(self.blocks(self.prefix(images)))
        return embeddings


class BackboneFamily(ABC):
    """What a name in ``model.name`` stands for."""

    name: ClassVar[str]
    summary: ClassVar[str]

    @classmethod
    @abstractmethod
    def build(cls, config: ModelConfig) -> Backbone:
        """The backbone with its weights loaded. It never depends on a run's seed.

        Raises:
            ConfigError: the checkpoint does not fit, or there are fewer blocks than asked for.
        """
