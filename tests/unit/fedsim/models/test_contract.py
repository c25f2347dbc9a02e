"""Every backbone keeps to the contract, with random weights."""

import pytest

from fedsim.models import BACKBONES
from fedsim.testing import BackboneContract

#: Names that stand for many, and one of them.
EXAMPLES = {"open_clip:NAME": "open_clip:ViT-B-32", "timm:NAME": "timm:vit_tiny_patch16_224"}


#: Larger ones of the same code; at their size they are compared with their library.
LARGE = {"clip-vit-l-14", "dinov2-base"}
NAMES = [EXAMPLES.get(family.name, family.name) for family in BACKBONES if family.name not in LARGE]


@pytest.mark.parametrize("name", NAMES, scope="class")
class TestBackbones(BackboneContract):
    @pytest.fixture
    def params(self, name):
        params = BACKBONES.get(name).Params
        random = {"random_weights": True} if "random_weights" in params.model_fields else {}
        return params(name=name, masked_blocks=1, **random)


class TestEmbeddedWeights(BackboneContract):
    backbone = "tiny-vit"
