"""Backbones of folders and repositories in the formats of timm and open_clip, written here; nothing is fetched."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from fedsim import ConfigError
from fedsim.config import load_config
from fedsim.data.torchvision_import import import_torchvision
from fedsim.models import build_model

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}
CLIP = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1},
}
WEIGHTS = {"timm": "model.safetensors", "open_clip": "open_clip_model.safetensors"}


def write_timm(folder, seed=0):
    """A folder as ``timm.models.save_for_hf`` writes it, and its network."""
    import_torchvision()
    import timm

    torch.manual_seed(seed)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=5, **VIT)
    pretrained = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "input_size": [3, 32, 32], "num_classes": 5}
    names = {"architecture": "vit_tiny_patch16_224", "num_classes": 5, "num_features": 24}
    folder.mkdir(parents=True)
    text = {**names, "pretrained_cfg": {**pretrained, "classifier": "head"}, "model_args": VIT}
    (folder / "config.json").write_text(json.dumps(text))
    save_file(network.state_dict(), folder / WEIGHTS["timm"])
    network.reset_classifier(0)
    return network.eval()


def write_open_clip(folder, seed=0):
    """A folder as ``open_clip.push_to_hf_hub`` writes it, and its vision tower."""
    import_torchvision()
    import open_clip

    torch.manual_seed(seed)
    network = open_clip.model.CLIP(**CLIP)
    folder.mkdir(parents=True)
    text = {"model_cfg": CLIP, "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}}
    (folder / "open_clip_config.json").write_text(json.dumps(text))
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / WEIGHTS["open_clip"])
    return network.visual.eval()


LIBRARIES = {"timm": write_timm, "open_clip": write_open_clip}


def build(name, *overrides):
    return build_model(load_config({}, [f"model.name={name}", "model.masked_blocks=2", *overrides]).model, 5).backbone


@torch.no_grad()
def check(backbone, network):
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert (backbone.input_size, backbone.mean, backbone.std) == (32, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    torch.testing.assert_close(backbone(images), network(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_local_folder_gives_the_library_s_network(library, tmp_path):
    network = LIBRARIES[library](tmp_path / "model")
    backbone = build(f"{library}:local-dir:{tmp_path / 'model'}")
    check(backbone, network)
    assert backbone.weights == "checkpoint"
    assert build(f"{library}:local-dir:{tmp_path / 'model'}", "model.random_weights=true").weights == "random"
    other = LIBRARIES[library](tmp_path / "other", seed=1)
    weights = f"model.checkpoint={tmp_path / 'other' / WEIGHTS[library]}"
    check(build(f"{library}:local-dir:{tmp_path / 'model'}", weights), other)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_repository_of_the_hub_gives_its_revision_from_the_cache(library, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--org--net"
    networks = {}
    for seed, (revision, commit) in enumerate({"main": "a" * 40, "v2": "b" * 40}.items()):
        networks[revision] = LIBRARIES[library](repository / "snapshots" / commit, seed)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / revision).write_text(commit)
    for overrides, revision in (([], "main"), (["model.revision=v2"], "v2"), ([f"model.revision={'b' * 40}"], "v2")):
        backbone = build(f"{library}:hf-hub:org/net", *overrides)
        check(backbone, networks[revision])
        assert backbone.weights == "hub"
    with pytest.raises(
        ConfigError, match=r"model.name: found '\w+:hf-hub:org/none', which gives no backbone \(.*hf-hub"
    ):
        build(f"{library}:hf-hub:org/none")


@pytest.mark.parametrize("library", LIBRARIES)
def test_folders_that_give_no_backbone_say_why(library, tmp_path):
    with pytest.raises(ConfigError, match=r"which gives no backbone \(.*config.json.*allowed: .*local-dir:FOLDER"):
        build(f"{library}:local-dir:{tmp_path}")
    LIBRARIES[library](tmp_path / "model")
    (tmp_path / "model" / WEIGHTS[library]).unlink()
    with pytest.raises(ConfigError, match=r"which gives no backbone"):
        build(f"{library}:local-dir:{tmp_path / 'model'}")
    with pytest.raises(ConfigError, match=r"model.revision: found 'v1', allowed: none, unless name has hf-hub"):
        build(f"{library}:local-dir:{tmp_path}", "model.revision=v1")


def test_a_run_is_named_by_the_content_of_the_folder_or_by_the_revision(tmp_path):
    write_timm(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b" / "moved")
    write_timm(tmp_path / "c", seed=1)
    places = (tmp_path / "a", tmp_path / "b" / "moved", tmp_path / "c")
    runs = [load_config({}, [f"model.name=timm:local-dir:{place}"]).run_id for place in places]
    assert runs[0] == runs[1] != runs[2]
    assert "-digits-timm-local-dir-s0-" in runs[0]
    hub = [load_config({}, ["model.name=timm:hf-hub:a/b", f"model.revision={one}"]).run_id for one in ("v1", "v2")]
    assert len({*hub, load_config({}, ["model.name=timm:hf-hub:a/b"]).run_id}) == 3
    with pytest.raises(ConfigError, match=r"model.revision: unknown key|model.revision: not used"):
        load_config({}, ["model.name=dinov2-small", "model.revision=v1"])
