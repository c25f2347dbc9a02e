"""A frozen backbone, split where training begins."""

from __future__ import annotations

import difflib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from fedsim.data.images import Interpolation
from fedsim.errors import ConfigError
from fedsim.settings import ModelSettings, by_content, unless_default

#: Where weights come from.
Weights = Literal["embedded", "package", "hub", "checkpoint", "random"]


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
        weights: where the weights came from: ``"embedded"``, ``"package"`` (of Python), ``"hub"``, ``"checkpoint"`` or
            ``"random"``.
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
        weights: Weights = "random",
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
        for part in (self.prefix, self.blocks):
            part.register_forward_pre_hook(_channels_last)
        self.input_size, self.embedding_size = input_size, embedding_size
        self.mean, self.std, self.interpolation = mean, std, interpolation
        self.weights: Weights = weights

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings of normalised images."""
        embeddings: Tensor = self.suffix(self.blocks(self.prefix(images)))
        return embeddings


def _channels_last(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Images with their channels last in memory: convolutions on CPUs are up to twice as fast so.

    Those of several clients at once stay as they are, since vmap has no rule for it.
    """
    return tuple(
        x.contiguous(memory_format=torch.channels_last)
        if x.ndim == 4 and not torch._C._functorch.is_batchedtensor(x)
        else x
        for x in inputs
    )


class BackboneFamily(ABC):
    """The meaning of a name in ``model.name``.

    A name that ends in ``:NAME`` stands for all names with what is before the colon, such as ``timm:resnet18``.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    #: Its keys in the ``model`` group.
    Params: ClassVar[type[ModelSettings]] = ModelSettings

    @classmethod
    @abstractmethod
    def build(cls, params: Any) -> Backbone:
        """The backbone with its weights loaded. It never depends on a run's seed: initialisers draw from a fixed one.

        Raises:
            ConfigError: there are no weights, they do not fit, or there are fewer blocks than asked for.
        """


class PretrainedSettings(ModelSettings):
    """Keys of backbones that come with weights."""

    checkpoint: str | None = Field(
        None, description="safetensors or weights-only torch file of the backbone", json_schema_extra=by_content
    )
    random_weights: bool = Field(False, description="run without pretrained weights; the runs table says so")

    @model_validator(mode="after")
    def _one_source_of_weights(self) -> PretrainedSettings:
        if self.checkpoint is not None and self.random_weights:
            raise ValueError("random_weights: found true, allowed: false, since model.checkpoint is given")
        return self


class LibrarySettings(PretrainedSettings):
    """Keys of backbones that a library finds by name, be it in a repository of the hub or in a local folder."""

    revision: str | None = Field(
        None,
        description="commit, tag or branch of a repository hf-hub:ORG/NAME",
        json_schema_extra=unless_default,
    )

    @model_validator(mode="after")
    def _revisions_are_the_hub_s(self) -> LibrarySettings:
        if self.revision is not None and self.stored[0] != "hf-hub":
            raise ValueError(f"revision: found {self.revision!r}, allowed: none, unless name has hf-hub:ORG/NAME")
        return self

    @property
    def stored(self) -> tuple[str, str]:
        """The source of configuration and weights, ``"hf-hub"`` or ``"local-dir"``, and the place; else both empty."""
        source, _, place = self.name.partition(":")[2].partition(":")
        if source not in ("hf-hub", "local-dir"):
            return "", ""
        return source, os.path.expanduser(place) if source == "local-dir" else place

    def paths(self) -> dict[str, str]:
        """A local folder under the key that names it, beside the other paths."""
        source, place = self.stored
        return super().paths() | ({"name": place} if source == "local-dir" else {})


def unknown_name(params: ModelSettings, known: Sequence[str]) -> ConfigError:
    """The error to raise where a library has no model of the name after the colon."""
    library, _, name = params.name.partition(":")
    near = ", ".join(difflib.get_close_matches(name.partition("/")[0], known, n=4, cutoff=0))
    return ConfigError(f"model.name: found {params.name!r}, allowed: a model of {library}, such as {near}")


def not_stored(params: ModelSettings, cause: Exception) -> ConfigError:
    """The error to raise where a repository of the hub or a local folder does not give a backbone."""
    reason = next(iter(str(cause).splitlines()), "")
    return ConfigError(
        f"model.name: found {params.name!r}, which gives no backbone ({type(cause).__name__}: {reason}), allowed: "
        "hf-hub:ORG/NAME that was fetched before or can be, or local-dir:FOLDER, each with a configuration and weights"
    )


def no_weights(params: ModelSettings, cause: Exception) -> ConfigError:
    """The error to raise where pretrained weights cannot be had."""
    reason = next(iter(str(cause).splitlines()), "")
    return ConfigError(
        f"model.name: the weights of {params.name!r} could not be downloaded ({type(cause).__name__}: {reason}); "
        "give a file as model.checkpoint, or model.random_weights=true to run without"
    )
