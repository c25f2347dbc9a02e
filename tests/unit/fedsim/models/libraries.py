"""Networks as their libraries build them, to compare with."""

import torch

from fedsim.data.torchvision_import import import_torchvision
from fedsim.models import BACKBONES


def settings_of(name, **keys):
    """A backbone's own settings."""
    return BACKBONES.get(name).Params(name=name, **keys)


def library_forward(name, input_size=224):
    """The library's own network with random weights, and these."""
    import_torchvision()
    import open_clip
    import timm

    clip = {"clip-vit-b-32": "ViT-B-32-quickgelu", "clip-vit-l-14": "ViT-L-14-quickgelu"}
    architectures = {
        "dinov2-small": "vit_small_patch14_dinov2",
        "dinov2-base": "vit_base_patch14_dinov2",
        "convmixer-768-32": "convmixer_768_32",
    }
    sizes = {"img_size": input_size} if name.startswith("dinov2") else {}
    if name in clip or name.startswith("open_clip:"):
        architecture = clip.get(name) or name.partition(":")[2].partition("/")[0]
        network = open_clip.model.CLIP(**open_clip.get_model_config(architecture)).visual
    else:
        architecture = architectures.get(name) or name.partition(":")[2].partition(".")[0]
        network = timm.create_model(architecture, num_classes=0, **sizes)
    state = network.state_dict()
    generator = torch.Generator().manual_seed(1)
    for value in state.values():  # so that no norm, scale or position is what it starts as
        if value.dtype == torch.float32:
            value.add_(0.02 * torch.randn(value.shape, generator=generator)).abs_() if value.ndim == 1 else None
    return network.eval(), state
