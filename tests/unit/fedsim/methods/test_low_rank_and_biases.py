"""LoRA and BitFit: which parameters they train, and what they send of them."""

import numpy as np
import pytest
import torch

from deltamask.payload import HEADER_BYTES
from fedsim import ConfigError
from fedsim.engine import make_model
from fedsim.methods.bitfit import BitFit
from fedsim.methods.lora import Lora
from fedsim.testing import run_rounds


def test_lora_bytes_are_exact_and_its_start_is_the_backbone(small_config):
    config = small_config("method.name=lora", "method.rank=2", "method.compressor.dtype=float16", "rounds=1")
    executor, _, _ = run_rounds(config)
    # One block of width 128: in_proj (384, 128), out_proj (128, 128), linear1 (512, 128), linear2 (128, 512).
    factors = 2 * (512 + 256 + 640 + 640)
    assert len(executor.content(1, 0)) == HEADER_BYTES + 2 * factors
    model = make_model(config, classes=10)
    net = Lora.flatten(config.method, config, model)
    features = model.prefix_features(np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8))
    assert torch.allclose(net(features, net.weights_d), model.network(features), atol=1e-6)
    a, b = torch.randn(2, 128), torch.randn(384, 2)
    changed = net.weights_d.clone()
    changed[: 2 * 512] = torch.cat([a.flatten(), b.flatten()])
    weight = model.network.get_parameter(model.masked_names[0])
    with torch.no_grad():
        expected = torch.func.functional_call(model.network, {model.masked_names[0]: weight + 4 * b @ a}, (features,))
        assert torch.allclose(net(features, changed), expected, atol=1e-4)


def test_lora_targets_are_chosen_by_name(small_config):
    config = small_config("method.name=lora", "method.targets=attn")
    model = make_model(config, classes=10)
    assert Lora.flatten(config.method, config, model).weights_d.numel() == 4 * (512 + 256)
    config = small_config("method.name=lora", "method.targets=qkv")
    with pytest.raises(
        ConfigError, match=r"method.targets: found 'qkv', allowed: what one of these contains: 0\.0\.self"
    ):
        Lora.flatten(config.method, config, model)


def test_bitfit_trains_the_biases_of_the_masked_blocks(small_config):
    config = small_config("method.name=bitfit")
    net = BitFit.flatten(config.method, config, make_model(config, classes=10))
    # in_proj, out_proj, linear1, linear2 and two norms
    assert net.weights_d.numel() == 384 + 128 + 512 + 128 + 128 + 128
