"""Backbones: the embedded one, the paper's at full size with random weights, and others by name."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import deltamask as dm
from fedsim import ConfigError
from fedsim.config import load_config
from fedsim.models import BACKBONES, PretrainedSettings, build_model
from tests.unit.fedsim.models.libraries import library_forward, settings_of

#: Masked parameters of five blocks, and all parameters of the vision tower.
PAPER = {
    "clip-vit-b-32": (5 * 12 * 768**2, 87_849_216),
    "clip-vit-l-14": (5 * 12 * 1024**2, 303_966_208),
    "dinov2-small": (5 * 12 * 384**2, 21_628_800),
    "dinov2-base": (5 * 12 * 768**2, 85_724_928),
    "convmixer-768-32": (5 * (768 * 49 + 768**2), 20_341_248),
}
OTHERS = [
    "timm:vit_tiny_patch16_224",
    "timm:resnet18.a1_in1k",
    "timm:convnext_atto",
    "timm:mixer_s32_224",
    "timm:mobilenetv2_050",
    "timm:efficientnet_b0.ra_in1k",
    "open_clip:ViT-B-16/laion2b_s34b_b88k",
]


def check_split(name, tmp_path, masked_blocks=5, **keys):
    """Prefix, blocks and suffix, with weights from a file, give what the library's own forward gives."""
    network, state = library_forward(name, **keys)
    path = str(tmp_path / "weights.safetensors")
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    model = build_model(settings_of(name, checkpoint=path, masked_blocks=masked_blocks, **keys), classes=10)
    images = torch.randn(1, 3, model.backbone.input_size, model.backbone.input_size)
    with torch.no_grad():
        expected = network(images)
        assert model.backbone.weights == "checkpoint"
        assert len(model.backbone.blocks) == masked_blocks
        assert expected.shape == (1, model.backbone.embedding_size)
        torch.testing.assert_close(model.backbone(images), expected, rtol=1e-5, atol=1e-5)
    return model


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name == "clip-vit-l-14" else []) for name in PAPER]
)
def test_the_papers_backbones_at_full_size(name, tmp_path):
    model = check_split(name, tmp_path)
    dimension, parameters = PAPER[name]
    assert model.dimension == dimension
    assert sum(p.numel() for p in model.backbone.parameters()) == parameters

    # One step of DeltaMask on a real batch, and its update through the wire.
    size = model.backbone.input_size
    features = model.prefix_features(np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8))
    model.load_head(
        {"weight": np.random.default_rng(1).normal(size=(10, model.backbone.embedding_size)) / 20, "bias": np.zeros(10)}
    )
    net = dm.MaskedModule(model.network, model.masked_names)
    theta_g = np.full(net.size, 0.95, np.float32)
    net.load_theta(theta_g)
    optimizer = torch.optim.Adam([net.scores_d], lr=0.1)
    F.cross_entropy(net(features, key=0), torch.tensor([3, 7])).backward()
    optimizer.step()
    theta_k = net.theta().numpy()
    assert np.count_nonzero(theta_k != theta_g) > 0
    update = dm.encode(theta_k, theta_g, key=1)
    decoded = dm.decode(update.payload, theta_g, key=1)
    assert 0 < update.sent_size <= decoded.flips.size
    assert decoded.mask_d.size == dimension


@pytest.mark.parametrize("name", OTHERS)
def test_other_names_of_timm_and_open_clip(name, tmp_path):
    check_split(name, tmp_path, masked_blocks=3)


def test_dinov2_takes_smaller_images(tmp_path):
    model = check_split("dinov2-small", tmp_path, masked_blocks=12, input_size=112)
    assert model.backbone.input_size == 112
    assert model.prefix_features(np.zeros((1, 112, 112, 3), np.uint8)).shape == (1, 8 * 8 + 1, 384)


@pytest.mark.parametrize(("size", "allowed"), [(100, "multiple of 14"), (532, "less than or equal to 518"), (0, "14")])
def test_sizes_that_dinov2_cannot_take_say_why(size, allowed):
    with pytest.raises(ConfigError, match=rf"model.input_size: found {size}, allowed: .*{allowed}"):
        load_config({"model": {"name": "dinov2-base", "input_size": size}})


def test_biases_are_masked_when_asked_for():
    plain, biased = (build_model(PretrainedSettings(mask_biases=flag), 10) for flag in (False, True))
    per_block = 3 * 128 + 128 + 4 * 128 + 128 + 4 * 128  # attention in and out, the two of the MLP, two norms
    assert biased.dimension == plain.dimension + 5 * per_block


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet_none", "allowed: a model of timm, such as"),
        ("open_clip:ViT-none", "allowed: a model of open_clip, such as ViT-"),
        ("timm:swin_tiny_patch4_window7_224", "found a network of type SwinTransformer, allowed: ConvMixer"),
        ("open_clip:RN50", "found a vision tower of type ModifiedResNet, allowed: VisionTransformer"),
    ],
)
def test_names_that_cannot_be_used_say_why(name, message):
    with pytest.raises(ConfigError, match=message):
        build_model(settings_of(name, random_weights=True), 10)


@pytest.mark.parametrize("name", ["dinov2-small", "clip-vit-b-32"])
def test_without_weights_it_refuses_to_run(name):
    code = (
        "from fedsim.models import BACKBONES, build_model\n"
        f"build_model(BACKBONES.get({name!r}).Params(name={name!r}), 10)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=offline())
    assert f"ConfigError: model.name: the weights of '{name}' could not be downloaded" in done.stderr
    assert "model.checkpoint, or model.random_weights=true" in done.stderr


def offline():
    return os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent", "https_proxy": "http://127.0.0.1:9"}


def test_weights_are_either_random_or_from_a_file():
    with pytest.raises(ConfigError, match=r"model.random_weights: found true, allowed: false"):
        load_config(None, ["model.checkpoint=x", "model.random_weights=true"])


@pytest.fixture
def tiny():
    return build_model(PretrainedSettings(), classes=10)


def test_the_split_composes_to_one_network_whatever_its_place():
    images = torch.randn(3, 3, 32, 32)
    outputs = []
    for masked_blocks in (1, 5):
        backbone = BACKBONES.get("tiny-vit").build(PretrainedSettings(masked_blocks=masked_blocks)).eval()
        assert len(backbone.blocks) == masked_blocks
        outputs.append(backbone(images))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-5)


def test_tiny_vit_has_about_a_million_masked_parameters(tiny):
    assert tiny.dimension == 5 * 12 * 128**2 == 983_040
    assert sum(p.numel() for p in tiny.backbone.parameters()) == 1_681_728
    assert all(name.startswith("0.") and name.endswith("weight") for name in tiny.masked_names)


def test_tiny_vit_comes_with_weights_and_can_do_without(tiny):
    random = build_model(PretrainedSettings(random_weights=True), classes=10)
    assert (tiny.backbone.weights, random.backbone.weights) == ("embedded", "random")
    assert not torch.equal(tiny.backbone.prefix[0].positions, random.backbone.prefix[0].positions)


def test_building_is_repeatable_and_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    first = build_model(PretrainedSettings(random_weights=True), classes=10)
    assert torch.equal(torch.rand(3), expected)
    second = build_model(PretrainedSettings(random_weights=True), classes=10)
    for a, b in zip(first.backbone.parameters(), second.backbone.parameters(), strict=True):
        assert torch.equal(a, b)


def test_all_parameters_are_frozen_and_the_head_starts_at_zero(tiny):
    assert not any(p.requires_grad for p in tiny.network.parameters())
    assert {name: (array.shape, array.any()) for name, array in tiny.head_state().items()} == {
        "weight": ((10, 128), False),
        "bias": ((10,), False),
    }


def test_more_masked_blocks_than_blocks_is_an_error():
    with pytest.raises(ConfigError, match=r"model.masked_blocks: found 9, allowed: at most 8"):
        build_model(PretrainedSettings(masked_blocks=9), classes=10)


def test_a_head_that_is_trained_with_the_blocks_starts_the_same_in_every_model():
    first, second = (build_model(PretrainedSettings(), classes=10, train_head=True) for _ in range(2))
    assert torch.equal(first.head.weight, second.head.weight)
    assert torch.equal(first.head.bias, second.head.bias)
    assert first.head.weight.any()
