"""Vision towers of open_clip: CLIP of the paper, and any other by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

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
from fedsim.models.split import split_open_clip

#: Files of a repository or a folder: the configuration, and weights, those that come first where there are several.
_CONFIGURATION = "open_clip_config.json"
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors", "pytorch_model.bin")


class OpenClipFamily(BackboneFamily):
    """Any vision tower of open_clip, with the weights of a tag: ``open_clip:ViT-B-16/laion2b_s34b_b88k``.

    Without a tag, the first that open_clip lists for the model. ``open_clip:hf-hub:ORG/NAME`` is one of the hub,
    ``open_clip:local-dir:FOLDER`` one in a folder with ``open_clip_config.json``.
    """

    name = "open_clip:NAME"
    summary = "any vision transformer of open_clip, with or without a tag, e.g. open_clip:ViT-B-16/laion2b_s34b_b88k"
    Params: ClassVar[type[PretrainedSettings]] = LibrarySettings
    architecture: ClassVar[str | None] = None

    @classmethod
    def build(cls, params: PretrainedSettings) -> Backbone:
        import_torchvision()
        import open_clip

        if isinstance(params, LibrarySettings) and params.stored[0]:
            visual, width, source, weights = _stored_tower(params)
        else:
            visual, width, source, weights = _listed_tower(params, cls.architecture or params.name.partition(":")[2])
        if params.checkpoint is not None:
            load_weights(visual, params.checkpoint, convert=_visual)
        size: Any = visual.image_size
        return Backbone(
            *split_open_clip(visual),
            masked_blocks=params.masked_blocks,
            input_size=size if isinstance(size, int) else size[0],
            embedding_size=width,
            weights="checkpoint" if params.checkpoint else "random" if params.random_weights else weights,
            mean=tuple(source.get("mean") or open_clip.OPENAI_DATASET_MEAN),
            std=tuple(source.get("std") or open_clip.OPENAI_DATASET_STD),
            interpolation="bicubic",
        )


#: A vision tower, the width of its embeddings, how images are normalised, and where its weights come from.
_Tower = tuple[nn.Module, int, dict[str, Any], Literal["hub", "checkpoint"]]


def _listed_tower(params: PretrainedSettings, name: str) -> _Tower:
    import open_clip

    architecture, _, tag = name.partition("/")
    settings = open_clip.get_model_config(architecture)
    if settings is None:
        raise unknown_name(params, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    tag = tag or (tags[0] if tags else "")
    source = open_clip.get_pretrained_cfg(architecture, tag) or {}
    if params.checkpoint is not None or params.random_weights:
        return _untrained(settings, source), settings["embed_dim"], source, "hub"
    try:  # the text tower comes with the weights, and is dropped
        visual = open_clip.create_model(architecture, pretrained=tag, require_pretrained=True).visual
    except Exception as error:  # what a hub raises without a network depends on the hub
        raise no_weights(params, error) from error
    return visual, settings["embed_dim"], source, "hub"


def _stored_tower(params: LibrarySettings) -> _Tower:
    pretrained = params.checkpoint is None and not params.random_weights
    try:
        configuration, weights = _files(params, pretrained)
        stored = json.loads(configuration.read_text())
        settings, source = stored["model_cfg"], stored.get("preprocess_cfg", {})
        visual, width = _untrained(settings, {}), int(settings["embed_dim"])
    except Exception as error:  # of the hub, or of a file that is not there or says something else
        raise not_stored(params, error) from error
    if weights is not None:
        load_weights(visual, str(weights), convert=_visual, key="model.name")
    return visual, width, source, "hub" if params.stored[0] == "hf-hub" else "checkpoint"


def _files(params: LibrarySettings, pretrained: bool) -> tuple[Path, Path | None]:
    """The configuration and the weights, if they are wanted, on this machine."""
    from open_clip.pretrained import download_pretrained_from_hf as download

    source, place = params.stored
    if source == "hf-hub":
        configuration = Path(download(place, _CONFIGURATION, revision=params.revision))
        return configuration, Path(download(place, revision=params.revision)) if pretrained else None
    configuration = Path(place) / _CONFIGURATION
    found = [path for name in _WEIGHTS if (path := Path(place) / name).is_file()]
    if pretrained and configuration.exists() and not found:
        raise FileNotFoundError(f"none of {', '.join(_WEIGHTS)} in {place}")
    return configuration, found[0] if pretrained and found else None


def _untrained(settings: dict[str, Any], source: dict[str, Any]) -> nn.Module:
    from open_clip.model import _build_vision_tower

    quick_gelu = bool(settings.get("quick_gelu", source.get("quick_gelu", False)))
    tower: nn.Module = _build_vision_tower(settings["embed_dim"], settings["vision_cfg"], quick_gelu)
    return tower


def _visual(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The vision tower's weights, out of a whole model's or as they are."""
    visual = {name.removeprefix("visual."): value for name, value in weights.items() if name.startswith("visual.")}
    return visual or weights


class ClipBase(OpenClipFamily):
    """CLIP ViT-B/32 (Radford et al. 2021) with OpenAI's weights."""

    name = "clip-vit-b-32"
    Params = PretrainedSettings
    summary = "CLIP ViT-B/32, OpenAI's weights; five masked blocks have 35,389,440 weights"
    architecture = "ViT-B-32-quickgelu/openai"


class ClipLarge(OpenClipFamily):
    """CLIP ViT-L/14 (Radford et al. 2021) with OpenAI's weights."""

    name = "clip-vit-l-14"
    Params = PretrainedSettings
    summary = "CLIP ViT-L/14, OpenAI's weights; five masked blocks have 62,914,560 weights"
    architecture = "ViT-L-14-quickgelu/openai"
