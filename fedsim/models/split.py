"""Stem, blocks and suffix of the networks of timm and open_clip."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from fedsim.errors import ConfigError

#: Stem, blocks and suffix of a network.
Parts = tuple[nn.Module, list[nn.Module], nn.Module]


class _Stage(nn.Module):
    """One end of a network: its modules, without the blocks, and the function that runs them."""

    def __init__(self, shell: nn.Module, run: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.shell, self._run = shell, run

    def forward(self, inputs: Tensor) -> Tensor:
        return self._run(self.shell, inputs)


def split_timm(model: nn.Module) -> Parts:
    """The parts of a timm model without classifier (``num_classes=0``).

    Raises:
        ConfigError: its architecture is none of those known here.
    """
    from timm.models import ConvMixer, ConvNeXt, EfficientNet, MlpMixer, ResNet, VisionTransformer

    network: Any = model
    if isinstance(network, VisionTransformer) and type(network).forward_features is VisionTransformer.forward_features:
        return _parts(network, ["blocks"], network.blocks, _vit_stem, lambda m, x: m.forward_head(m.norm(x)))
    if isinstance(network, ConvMixer):
        return _parts(network, ["blocks"], network.blocks, _stem, lambda m, x: m.forward_head(x))
    if isinstance(network, MlpMixer):
        return _parts(network, ["blocks"], network.blocks, _stem, lambda m, x: m.forward_head(m.norm(x)))
    if isinstance(network, ConvNeXt):
        stages: Any = network.stages
        blocks = [block for stage in stages for block in _after(stage.downsample, stage.blocks)]
        return _parts(network, ["stages"], blocks, _stem, lambda m, x: m.forward_head(m.norm_pre(x)))
    if isinstance(network, EfficientNet):
        blocks = [block for stage in network.blocks for block in stage]
        return _parts(network, ["blocks"], blocks, _efficientnet_stem, _efficientnet_embedding)
    if isinstance(network, ResNet):
        layers = ["layer1", "layer2", "layer3", "layer4"]
        blocks = [block for layer in layers for block in getattr(network, layer)]
        return _parts(network, layers, blocks, _resnet_stem, lambda m, x: m.forward_head(x))
    raise ConfigError(
        f"model.name: found a network of type {type(model).__name__}, allowed: ConvMixer, ConvNeXt, "
        "EfficientNet, MlpMixer, ResNet and VisionTransformer, whose blocks are known"
    )


def split_open_clip(model: nn.Module) -> Parts:
    """The parts of the vision tower of an open_clip model.

    Raises:
        ConfigError: its architecture is none of those known here.
    """
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    network: Any = model
    if isinstance(network, TimmModel):
        stem, blocks, suffix = split_timm(network.trunk)
        return stem, blocks, nn.Sequential(suffix, network.head)
    if isinstance(network, VisionTransformer) and network.transformer.batch_first and not network.output_tokens:
        blocks = network.transformer.resblocks
        return _parts(network, ["transformer"], blocks, lambda m, x: m._embeds(x), _clip_embedding)
    raise ConfigError(
        f"model.name: found a vision tower of type {type(model).__name__}, allowed: VisionTransformer, and TimmModel "
        "of an architecture that timm:NAME knows"
    )


def _parts(
    network: nn.Module,
    containers: list[str],
    blocks: Iterable[nn.Module],
    stem: Callable[[Any, Tensor], Tensor],
    suffix: Callable[[Any, Tensor], Tensor],
) -> Parts:
    chosen = list(blocks)
    for name in containers:
        setattr(network, name, nn.Identity())
    return _Stage(network, stem), chosen, _Stage(network, suffix)


def _stem(network: Any, images: Tensor) -> Tensor:
    features: Tensor = network.stem(images)
    return features


def _vit_stem(network: Any, images: Tensor) -> Tensor:
    tokens: Tensor = network.norm_pre(network.patch_drop(network._pos_embed(network.patch_embed(images))))
    return tokens


def _efficientnet_stem(network: Any, images: Tensor) -> Tensor:
    features: Tensor = network.bn1(network.conv_stem(images))
    return features


def _efficientnet_embedding(network: Any, features: Tensor) -> Tensor:
    pooled: Tensor = network.forward_head(network.bn2(network.conv_head(features)))
    return pooled


def _resnet_stem(network: Any, images: Tensor) -> Tensor:
    features: Tensor = network.maxpool(network.act1(network.bn1(network.conv1(images))))
    return features


def _clip_embedding(network: Any, tokens: Tensor) -> Tensor:
    pooled: Tensor = network._pool(tokens)[0]
    return pooled if network.proj is None else pooled @ network.proj


def _after(first: nn.Module, blocks: Iterable[nn.Module]) -> list[nn.Module]:
    """Blocks, of which the first begins with another module."""
    head, *rest = blocks
    return [nn.Sequential(first, head), *rest]
