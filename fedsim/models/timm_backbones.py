"""Backbones of timm: DINOv2 and ConvMixer of the paper, and any other by name."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

from pydantic import Field
from torch import nn

from fedsim.data.torchvision_import import import_torchvision
from fedsim.models.backbone import (
    Backbone,
    BackboneFamily,
    LibrarySettings,
    PretrainedSettings,
    no_weights,
    not_stored,
    unknown_name,
)
from fedsim.models.checkpoint import load_weights
from fedsim.models.split import split_timm

_IGNORED = ("head.", "head_dist.", "fc.", "classifier.", "mask_token", "register_tokens")


class TimmFamily(BackboneFamily):
    """Any model of timm of a known architecture, with a tag or without: ``timm:vit_base_patch16_224.augreg_in1k``.

    ``timm:hf-hub:ORG/NAME`` is one of the hub, ``timm:local-dir:FOLDER`` one in a folder with ``config.json``.
    """

    name = "timm:NAME"
    summary = (
        "any ConvMixer, ConvNeXt, EfficientNet, MlpMixer, ResNet or VisionTransformer of timm, e.g. "
        "timm:vit_tiny_patch16_224"
    )
    Params: ClassVar[type[PretrainedSettings]] = LibrarySettings
    architecture: ClassVar[str | None] = None

    @classmethod
    def build(cls, params: PretrainedSettings) -> Backbone:
        import_torchvision()
        import timm
        from timm.data import resolve_data_config

        architecture = cls.architecture or params.name.partition(":")[2]
        known = timm.list_models()
        source, place = params.stored if isinstance(params, LibrarySettings) else ("", "")
        if not source and architecture.partition(".")[0] not in known:
            raise unknown_name(params, known)
        pretrained = params.checkpoint is None and not params.random_weights
        from_hub, arguments = pretrained and source != "local-dir", cls._arguments(params)
        if source:
            revision = getattr(params, "revision", None)
            architecture = f"{source}:{place}" + (f"@{revision}" if revision else "")
        try:
            model: Any = timm.create_model(architecture, pretrained=pretrained, num_classes=0, **arguments)
        except Exception as error:  # what a hub raises without a network depends on the hub
            if source:
                raise not_stored(params, error) from error
            if not pretrained:
                raise
            raise no_weights(params, error) from error
        data = resolve_data_config(arguments, model=model)
        if params.checkpoint is not None:
            load_weights(model, params.checkpoint, convert=lambda w: _convert(w, model), ignored=_IGNORED)
        return Backbone(
            *split_timm(model),
            masked_blocks=params.masked_blocks,
            input_size=data["input_size"][1],
            embedding_size=model.head_hidden_size,
            weights="random" if params.random_weights else "hub" if from_hub else "checkpoint",
            mean=tuple(data["mean"]),
            std=tuple(data["std"]),
            interpolation="bilinear" if data["interpolation"] == "bilinear" else "bicubic",
        )

    @classmethod
    def _arguments(cls, params: Any) -> dict[str, Any]:
        """Arguments of ``timm.create_model`` beside the name."""
        return {}


def _convert(weights: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """Names of other sources and position embeddings of other input sizes, as timm itself converts them."""
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    return dict(convert(weights, model)) if convert else weights


class DinoV2Settings(PretrainedSettings):
    """Keys of DINOv2."""

    input_size: int = Field(
        224, ge=14, le=518, multiple_of=14, description="height and width of the images, pixels; trained at 518"
    )


class DinoV2Small(TimmFamily):
    """DINOv2 ViT-S/14 (Oquab et al. 2023), positions interpolated from 518 pixels to the input size."""

    name = "dinov2-small"
    summary = (
        "DINOv2 ViT-S/14 at 14 to 518 pixels, weights from the hub or a file; five masked blocks have 8,847,360 weights"
    )
    Params = DinoV2Settings
    architecture = "vit_small_patch14_dinov2.lvd142m"

    @classmethod
    def _arguments(cls, params: DinoV2Settings) -> dict[str, Any]:
        return {"img_size": params.input_size}


class DinoV2Base(DinoV2Small):
    """DINOv2 ViT-B/14, as :class:`DinoV2Small`."""

    name = "dinov2-base"
    summary = (
        "DINOv2 ViT-B/14 at 14 to 518 pixels, weights from the hub or a file; five masked blocks have 35,389,440 "
        "weights"
    )
    architecture = "vit_base_patch14_dinov2.lvd142m"


class ConvMixer(TimmFamily):
    """ConvMixer-768/32 (Trockman and Kolter 2022)."""

    name = "convmixer-768-32"
    Params = PretrainedSettings
    summary = "ConvMixer-768/32; five masked blocks have 3,137,280 weights"
    architecture = "convmixer_768_32.in1k"
