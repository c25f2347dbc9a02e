"""The small convolutional network that simulators are compared on."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from pydantic import Field
from torch import nn

from fedsim.models.backbone import Backbone, BackboneFamily
from fedsim.models.pixels import Pixels
from fedsim.settings import ModelSettings


class CnnSettings(ModelSettings):
    """Keys of the convolutional network, which is trained whole unless they say otherwise."""

    masked_blocks: int = Field(3, ge=0, le=1000, description="last blocks that are trained, of three")
    mask_biases: bool = Field(True, description="also train their biases")
    size: int = Field(32, ge=8, le=256, description="height and width of the images, pixels")
    channels: Literal[1, 3] = Field(3, description="colours of a pixel; 1 for grey")


class Cnn(BackboneFamily):
    """Two convolutions of 3 x 3 pixels and 32 and 64 channels, maxima of 2 x 2 pixels, and a layer of 128 units.

    The network that pfl-research (Granqvist et al. 2024) measures its simulator by, without dropout. With
    ``head.name=joint`` it has 1,626,442 parameters for 10 classes. Initialised after Glorot and Bengio (2010).
    """

    name = "cnn"
    summary = "two convolutions and a layer of 128 units, from a random start; trained whole with head.name=joint"
    Params = CnnSettings

    @classmethod
    def build(cls, params: CnnSettings) -> Backbone:
        side = (params.size - 4) // 2
        blocks = [
            _block(nn.Conv2d(params.channels, 32, 3)),
            _block(nn.Conv2d(32, 64, 3)),
            _block(nn.Linear(64 * side * side, 128), nn.MaxPool2d(2), nn.Flatten()),
        ]
        return Backbone(
            Pixels(params.channels),
            blocks,
            nn.Identity(),
            masked_blocks=params.masked_blocks,
            input_size=params.size,
            embedding_size=128,
        )


def _block(layer: nn.Conv2d | nn.Linear, *before: nn.Module) -> nn.Module:
    nn.init.xavier_uniform_(layer.weight)
    named = {type(module).__name__.lower(): module for module in before}
    return nn.Sequential(OrderedDict([*named.items(), ("layer", layer), ("relu", nn.ReLU())]))
