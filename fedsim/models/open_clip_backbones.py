"""Vision towers of open_clip: CLIP of the paper, and any other by name."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fedsim.data.torchvision_import import import_torchvision
from fedsim.models.backbone import Backbone, BackboneFamily, PretrainedSettings, no_weights, unknown_name
from fedsim.models.checkpoint import load_weights
from fedsim.models.split import split_open_clip


class OpenClipFamily(BackboneFamily):
    """Any vision tower of open_clip, with the weights of a tag: ``open_clip:ViT-B-16/laion2b_s34b_b88k``.

    Without a tag, the first that open_clip lists for the model.
    """

    name = "open_clip:NAME"
    summary = "any vision transformer of open_clip, with or without a tag, e.g. open_clip:ViT-B-16/laion2b_s34b_b88k"
    Params = PretrainedSettings
    architecture: ClassVar[str | None] = None

    @classmethod
    def build(cls, params: PretrainedSettings) -> Backbone:
        import_torchvision()
        import open_clip
        from open_clip.model import _build_vision_tower

        architecture, _, tag = (cls.architecture or params.name.partition(":")[2]).partition("/")
        settings = open_clip.get_model_config(architecture)
        if settings is None:
            raise unknown_name(params, open_clip.list_models())
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        tag = tag or (tags[0] if tags else "")
        pretrained = params.checkpoint is None and not params.random_weights
        source = open_clip.get_pretrained_cfg(architecture, tag) or {}
        try:
            if pretrained:  # the text tower comes with the weights, and is dropped
                visual = open_clip.create_model(architecture, pretrained=tag, require_pretrained=True).visual
            else:
                quick_gelu = bool(settings.get("quick_gelu", source.get("quick_gelu", False)))
                visual = _build_vision_tower(settings["embed_dim"], settings["vision_cfg"], quick_gelu)
        except Exception as error:  # what a hub raises without a network depends on the hub
            if not pretrained:
                raise
            raise no_weights(params, error) from error
        if params.checkpoint is not None:
            load_weights(visual, params.checkpoint, convert=_visual)
        size = visual.image_size
        return Backbone(
            *split_open_clip(visual),
            masked_blocks=params.masked_blocks,
            input_size=size if isinstance(size, int) else size[0],
            embedding_size=settings["embed_dim"],
            weights="hub" if pretrained else "checkpoint" if params.checkpoint else "random",
            mean=tuple(source.get("mean") or open_clip.OPENAI_DATASET_MEAN),
            std=tuple(source.get("std") or open_clip.OPENAI_DATASET_STD),
            interpolation="bicubic",
        )


def _visual(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The vision tower's weights, out of a whole model's or as they are."""
    visual = {name.removeprefix("visual."): value for name, value in weights.items() if name.startswith("visual.")}
    return visual or weights


class ClipBase(OpenClipFamily):
    """CLIP ViT-B/32 (Radford et al. 2021) with OpenAI's weights."""

    name = "clip-vit-b-32"
    summary = "CLIP ViT-B/32, OpenAI's weights; five masked blocks have 35,389,440 weights"
    architecture = "ViT-B-32-quickgelu/openai"


class ClipLarge(OpenClipFamily):
    """CLIP ViT-L/14 (Radford et al. 2021) with OpenAI's weights."""

    name = "clip-vit-l-14"
    summary = "CLIP ViT-L/14, OpenAI's weights; five masked blocks have 62,914,560 weights"
    architecture = "ViT-L-14-quickgelu/openai"
