"""Weights from files."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from fedsim import ConfigError
from fedsim.data.torchvision_import import import_torchvision
from fedsim.models import PretrainedSettings, build_model
from fedsim.models.tiny_vit import TinyViT
from tests.unit.fedsim.models.libraries import library_forward, settings_of


@pytest.mark.parametrize("kind", ["safetensors", "torch", "wrapped", "half"])
def test_checkpoints_of_both_formats_load_whatever_the_split(tmp_path, kind):
    network = TinyViT()
    torch.nn.init.constant_(network.stem.positions, 0.25)
    path = str(tmp_path / "weights")
    state = network.state_dict()
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "half":
        save_file({name: value.half() for name, value in state.items()}, path)
    else:
        renamed = {f"module.{name}": value for name, value in state.items()}
        torch.save({"state_dict": renamed, "epoch": 3} if kind == "wrapped" else state, path)
    model = build_model(PretrainedSettings(checkpoint=path, masked_blocks=2), classes=10)
    positions = model.backbone.prefix[0].positions
    assert positions.dtype == torch.float32
    assert (positions == 0.25).all()


def test_a_whole_clip_checkpoint_and_a_classifier_are_accepted(tmp_path):
    _, state = library_forward("open_clip:ViT-B-16")
    path = str(tmp_path / "clip.safetensors")
    save_file({**{f"visual.{k}": v.contiguous() for k, v in state.items()}, "logit_scale": torch.ones(1)}, path)
    assert (
        build_model(PretrainedSettings(name="open_clip:ViT-B-16", checkpoint=path), 10).backbone.weights == "checkpoint"
    )
    _, state = library_forward("timm:vit_tiny_patch16_224")
    save_file({**state, "head.weight": torch.ones(1000, 192), "head.bias": torch.ones(1000)}, path)
    build_model(PretrainedSettings(name="timm:vit_tiny_patch16_224", checkpoint=path), 10)


@pytest.mark.parametrize("size", [224, 112])
def test_position_embeddings_of_another_input_size_are_interpolated(tmp_path, size):
    import_torchvision()
    import timm

    large = timm.create_model("vit_small_patch14_dinov2", num_classes=0)  # 518 pixels, as its weights are published
    path = str(tmp_path / "dinov2.safetensors")
    save_file(large.state_dict(), path)
    model = build_model(settings_of("dinov2-small", checkpoint=path, input_size=size), 10)
    positions = model.backbone.prefix[0].shell.pos_embed
    expected = timm.layers.resample_abs_pos_embed(large.pos_embed, [size // 14, size // 14])
    assert model.backbone.input_size == size
    assert positions.shape == (1, (size // 14) ** 2 + 1, 384)
    torch.testing.assert_close(positions, expected)
    assert load_file(path)["pos_embed"].shape[1] == 37 * 37 + 1


def test_checkpoints_that_do_not_fit_say_why(tmp_path):
    path = str(tmp_path / "weights.safetensors")
    state = TinyViT().state_dict()
    state["pool.norm.weight"] = torch.zeros(3)
    state["extra"] = torch.zeros(1)
    del state["pool.norm.bias"]
    save_file(state, path)
    with pytest.raises(ConfigError) as raised:
        build_model(PretrainedSettings(checkpoint=path), classes=10)
    for part in ("missing pool.norm.bias", "unexpected extra", "pool.norm.weight of shape (3,) instead of (128,)"):
        assert part in str(raised.value)
    (tmp_path / "weights.safetensors").write_bytes(b"neither")
    with pytest.raises(ConfigError, match=r"expected a safetensors file or a torch file of tensors alone"):
        build_model(PretrainedSettings(checkpoint=path), classes=10)
    torch.save({"weights": print}, path)
    with pytest.raises(ConfigError, match=r"expected a safetensors file or a torch file of tensors alone"):
        build_model(PretrainedSettings(checkpoint=path), classes=10)
    with pytest.raises(ConfigError, match=r"model.checkpoint: expected a file at 'none'"):
        build_model(PretrainedSettings(checkpoint="none"), classes=10)
