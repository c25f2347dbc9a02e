"""The recipe of the embedded backbone: deterministic, resumable, and its images and descriptors as described."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fedsim.models.tiny_vit import TinyViT
from pipelines.pretrain.__main__ import pretrain
from pipelines.pretrain.descriptors import Descriptors
from pipelines.pretrain.images import draw

SMALL = {"batch": 8, "lr": 1e-3, "seed": 0, "save_every": 2, "fit_images": 256}


def test_images_follow_from_seed_and_batch():
    first = draw(0, 5, 6, 32)
    assert first.shape == (6, 32, 32, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, draw(0, 5, 6, 32))
    assert not np.array_equal(first, draw(0, 6, 6, 32))
    assert not np.array_equal(first, draw(1, 5, 6, 32))


def test_descriptors_are_white_on_what_they_were_fitted_on():
    images = torch.as_tensor(draw(0, 0, 1024, 32)).permute(0, 3, 1, 2).float() / 255
    described = Descriptors(images, seed=0, components=16)(images)
    torch.testing.assert_close(described.mean(0), torch.zeros(16), atol=1e-3, rtol=0)
    torch.testing.assert_close(described.T.cov(), torch.eye(16), atol=2e-2, rtol=0)


def test_an_interrupted_pretraining_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    whole = load_file(pretrain(tmp_path / "whole", steps=4, **SMALL))
    import pipelines.pretrain.__main__ as recipe

    def interrupted(seed, batch, count, size):
        if batch == 3:
            raise KeyboardInterrupt
        return draw(seed, batch, count, size)

    monkeypatch.setattr(recipe, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain(tmp_path / "cut", steps=4, **SMALL)
    monkeypatch.setattr(recipe, "draw", draw)
    resumed = load_file(pretrain(tmp_path / "cut", steps=4, **SMALL))
    assert whole.keys() == resumed.keys() == TinyViT().state_dict().keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert all(value.dtype == torch.float16 for value in whole.values())
    with pytest.raises(SystemExit, match="give another --output"):
        pretrain(tmp_path / "cut", steps=5, **SMALL)


def test_the_embedded_weights_are_small():
    from pathlib import Path

    import fedsim.models

    assert Path(fedsim.models.__file__).with_name("tiny-vit.safetensors").stat().st_size < 4_000_000
