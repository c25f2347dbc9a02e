"""Multilayer perceptrons over pixels, and logistic regression, which is one without hidden layers."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from fedsim.models.backbone import Backbone, BackboneFamily
from fedsim.models.pixels import Pixels
from fedsim.settings import ModelSettings


class MlpSettings(ModelSettings):
    """Keys of the perceptron, which is trained whole unless they say otherwise."""

    hidden: tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...] = Field(
        (200, 200), description="units of the hidden layers; [] for logistic regression"
    )
    masked_blocks: int = Field(2, ge=0, le=1000, description="last hidden layers that are trained")
    mask_biases: bool = Field(True, description="also train their biases")
    size: int = Field(28, ge=1, le=256, description="height and width of the images, pixels")
    channels: Literal[1, 3] = Field(1, description="colours of a pixel; 1 for grey")


class Mlp(BackboneFamily):
    """Pixels through layers with rectifiers; by default the 2NN of McMahan et al. (2017), in MNIST's shape.

    Logistic regression is ``model.hidden=[] model.masked_blocks=0 head.name=joint``. He initialisation.
    """

    name = "mlp"
    summary = "perceptron over pixels with two layers of 200 units, random weights; trained whole with head.name=joint"
    Params = MlpSettings

    @classmethod
    def build(cls, params: MlpSettings) -> Backbone:
        widths = [params.channels * params.size**2, *params.hidden]
        blocks = []
        for inputs, outputs in pairwise(widths):
            layer = nn.Linear(inputs, outputs)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            blocks.append(nn.Sequential(layer, nn.ReLU()))
        return Backbone(
            Pixels(params.channels, flat=True),
            blocks,
            nn.Identity(),
            masked_blocks=params.masked_blocks,
            input_size=params.size,
            embedding_size=widths[-1],
        )
