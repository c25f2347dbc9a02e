import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fedsim import ConfigError
from fedsim.config import ModelConfig
from fedsim.models import BACKBONES, build_model
from fedsim.models.tiny_vit import TinyViT


@pytest.fixture(params=[family.name for family in BACKBONES])
def name(request):
    return request.param


def test_the_split_composes_to_one_network_whatever_its_place(name):
    images = torch.randn(3, 3, 32, 32)
    outputs = []
    for masked_blocks in (1, 5):
        backbone = BACKBONES.get(name).build(ModelConfig(name=name, masked_blocks=masked_blocks)).eval()
        assert len(backbone.blocks) == masked_blocks
        outputs.append(backbone(images))
    assert outputs[0].shape == (3, backbone.embedding_size)
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-5)


def test_tiny_vit_has_about_a_million_masked_parameters():
    model = build_model(ModelConfig(), classes=10)
    assert model.dimension == 5 * 12 * 128**2 == 983_040
    assert sum(p.numel() for p in model.backbone.parameters()) == 1_681_728
    assert all(name.startswith("0.") and name.endswith("weight") for name in model.masked_names)


def test_building_is_repeatable_and_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    first = build_model(ModelConfig(), classes=10)
    assert torch.equal(torch.rand(3), expected)
    second = build_model(ModelConfig(), classes=10)
    for a, b in zip(first.backbone.parameters(), second.backbone.parameters(), strict=True):
        assert torch.equal(a, b)


def test_all_parameters_are_frozen_and_the_head_starts_at_zero():
    model = build_model(ModelConfig(), classes=7)
    assert not any(p.requires_grad for p in model.network.parameters())
    assert {name: (array.shape, array.any()) for name, array in model.head_state().items()} == {
        "weight": ((7, 128), False),
        "bias": ((7,), False),
    }


@pytest.mark.parametrize("shape", [(5, 8, 8, 1), (5, 40, 28, 3), (300, 32, 32, 3)])
def test_features_of_images_of_any_size_and_of_grey_ones(shape):
    model = build_model(ModelConfig(), classes=10)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    features = model.prefix_features(images)
    assert features.shape == (shape[0], 16, 128)
    torch.testing.assert_close(model.prefix_features(images[-1:]), features[-1:], rtol=1e-4, atol=1e-4)


def test_checkpoints_load_whatever_the_split(tmp_path):
    network = TinyViT()
    torch.nn.init.constant_(network.stem.positions, 0.25)
    path = str(tmp_path / "weights.safetensors")
    save_file(network.state_dict(), path)
    model = build_model(ModelConfig(checkpoint=path, masked_blocks=2), classes=10)
    assert (model.backbone.prefix[0].positions == 0.25).all()


def test_checkpoints_that_do_not_fit_say_why(tmp_path):
    path = str(tmp_path / "weights.safetensors")
    state = TinyViT().state_dict()
    state["pool.norm.weight"] = torch.zeros(3)
    state["extra"] = torch.zeros(1)
    del state["pool.norm.bias"]
    save_file(state, path)
    with pytest.raises(ConfigError) as raised:
        build_model(ModelConfig(checkpoint=path), classes=10)
    for part in ("missing pool.norm.bias", "unexpected extra", "pool.norm.weight of shape (3,) instead of (128,)"):
        assert part in str(raised.value)
    (tmp_path / "weights.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ConfigError, match="expected a safetensors file"):
        build_model(ModelConfig(checkpoint=path), classes=10)


def test_more_masked_blocks_than_blocks_is_an_error():
    with pytest.raises(ConfigError, match=r"model.masked_blocks: found 9, allowed: at most 8"):
        build_model(ModelConfig(masked_blocks=9), classes=10)
