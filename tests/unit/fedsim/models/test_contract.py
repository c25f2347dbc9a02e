"""Every backbone keeps to the contract, with random weights."""

import pytest

from fedsim.models import BACKBONES
from fedsim.testing import BackboneContract
from fedsim.testing._members import params_of

#: Names that stand for many, and one of them.
EXAMPLES = {"open_clip:NAME": "open_clip:ViT-B-32", "timm:NAME": "timm:vit_tiny_patch16_224"}


class TestBackbones(BackboneContract):
    @pytest.fixture(params=[EXAMPLES.get(family.name, family.name) for family in BACKBONES], scope="class")
    def params(self, request):
        return params_of(request.param, BACKBONES, {"masked_blocks": 1, "random_weights": True})


class TestEmbeddedWeights(BackboneContract):
    backbone = "tiny-vit"
