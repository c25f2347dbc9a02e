"""A frozen backbone, split where training begins."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from fedsim.config import ModelConfig
from fedsim.data.images import Interpolation
from fedsim.errors import ConfigError

_WEIGHT_SEED = 0  # random weights are part of the backbone, the same in every run

#: Where weights come from.
Weights = Literal["embedded", "hub", "checkpoint", "random"]


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
        weights: where the weights came from: ``"embedded"``, ``"hub"``, ``"checkpoint"`` or ``"random"``.
        mean, std: normalisation of pixels in [0, 1], a value a channel.
        interpolation: how images are resized to ``input_size``.

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
        weights: Weights,
        mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        std: tuple[float, float, float] = (0.5, 0.5, 0.5),
        interpolation: Interpolation = "bilinear",
    ) -> None:
        super().__init__()
        if masked_blocks > len(blocks):
            raise ConfigError(f"model.masked_blocks: found {masked_blocks}, allowed: at most {len(blocks)}")
        frozen = len(blocks) - masked_blocks
        self.prefix = nn.Sequential(stem, *blocks[:frozen])
        self.blocks = nn.Sequential(*blocks[frozen:])
        self.suffix = suffix
        self.input_size, self.embedding_size = input_size, embedding_size
        self.mean, self.std, self.interpolation = mean, std, interpolation
        self.weights: Weights = weights

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings of normalised images."""
        embeddings: Tensor = self.suffix(self.blocks(self.prefix(images)))
        return embeddings


class BackboneFamily(ABC):
    """What a name in ``model.name`` stands for.

    A name that ends in ``:NAME`` stands for all names with what is before the colon, such as ``timm:resnet18``.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    @classmethod
    @abstractmethod
    def build(cls, config: ModelConfig) -> Backbone:
        """The backbone with its weights loaded. It never depends on a run's seed.

        Raises:
            ConfigError: there are no weights, they do not fit, or there are fewer blocks than asked for.
        """


@contextmanager
def seeded() -> Iterator[None]:
    """A fixed seed for initialisers, which draw from the global generator; that is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_WEIGHT_SEED)
        yield


def unknown_name(config: ModelConfig, known: Sequence[str]) -> ConfigError:
    """The error to raise where a library has no model of the name after the colon."""
    library, _, name = config.name.partition(":")
    near = ", ".join(difflib.get_close_matches(name.partition("/")[0], known, n=4, cutoff=0))
    return ConfigError(f"model.name: found {config.name!r}, allowed: a model of {library}, such as {near}")


def no_weights(config: ModelConfig, cause: Exception) -> ConfigError:
    """The error to raise where pretrained weights cannot be had."""
    reason = next(iter(str(cause).splitlines()), "")
    return ConfigError(
        f"model.name: the weights of {config.name!r} could not be downloaded ({type(cause).__name__}: {reason}); "
        "give a file as model.checkpoint, or model.random_weights=true to run without"
    )
