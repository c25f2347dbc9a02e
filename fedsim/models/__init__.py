"""Backbones and heads: one file a backbone plus its line here."""

from __future__ import annotations

import torch

from fedsim.config import ModelConfig
from fedsim.models.backbone import Backbone, BackboneFamily
from fedsim.models.open_clip_backbones import ClipBase, ClipLarge, OpenClipFamily
from fedsim.models.task import TaskModel
from fedsim.models.timm_backbones import ConvMixer, DinoV2Base, DinoV2Small, TimmFamily
from fedsim.models.tiny_vit import TinyViTFamily
from fedsim.registry import Registry

__all__ = ["BACKBONES", "Backbone", "BackboneFamily", "TaskModel", "build_model"]

BACKBONES: Registry[type[BackboneFamily]] = Registry(
    "model.name",
    [TinyViTFamily, ClipBase, ClipLarge, DinoV2Small, DinoV2Base, ConvMixer, OpenClipFamily, TimmFamily],
)


def build_model(config: ModelConfig, classes: int, device: torch.device | str = "cpu") -> TaskModel:
    """The backbone that a configuration names, with an untrained head of ``classes`` classes."""
    return TaskModel(BACKBONES.get(config.name).build(config), classes, device, mask_biases=config.mask_biases)
