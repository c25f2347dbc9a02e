"""Backbones: one file a family plus its line here."""

from __future__ import annotations

import torch

from fedsim.models.backbone import Backbone, BackboneFamily, PretrainedSettings
from fedsim.models.cnn import Cnn
from fedsim.models.efficientnet_lite import EfficientNetLite0
from fedsim.models.mlp import Mlp
from fedsim.models.open_clip_backbones import ClipBase, ClipLarge, OpenClipFamily
from fedsim.models.task import TaskModel
from fedsim.models.timm_backbones import ConvMixer, DinoV2Base, DinoV2Small, TimmFamily
from fedsim.models.tiny_vit import TinyViTFamily
from fedsim.registry import Registry
from fedsim.settings import ModelSettings

__all__ = ["BACKBONES", "Backbone", "BackboneFamily", "PretrainedSettings", "TaskModel", "build_model"]

BACKBONES: Registry[type[BackboneFamily]] = Registry(
    "model.name",
    [
        TinyViTFamily,
        EfficientNetLite0,
        ClipBase,
        ClipLarge,
        DinoV2Small,
        DinoV2Base,
        ConvMixer,
        Cnn,
        Mlp,
        OpenClipFamily,
        TimmFamily,
    ],
    base=BackboneFamily,
)

_WEIGHT_SEED = 0  # random weights are part of the backbone, the same in every run


def build_model(
    params: ModelSettings, classes: int, device: torch.device | str = "cpu", *, train_head: bool = False
) -> TaskModel:
    """The backbone that settings name, with an untrained head of ``classes`` classes.

    Args:
        params: the ``model`` group.
        classes: number of classes of the head.
        device: where to compute.
        train_head: whether methods train the head together with the blocks.
    """
    with torch.random.fork_rng(devices=[]):  # initialisers draw from the global generator, which is left as it was
        torch.manual_seed(_WEIGHT_SEED)
        backbone = BACKBONES.get(params.name).build(params)
        return TaskModel(backbone, classes, device, mask_biases=params.mask_biases, train_head=train_head)
