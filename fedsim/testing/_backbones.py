"""The contract of backbones."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from fedsim.errors import ConfigError
from fedsim.models import BACKBONES, BackboneFamily, TaskModel, build_model
from fedsim.settings import ModelSettings
from fedsim.testing._members import check_named, name_of, params_of


class BackboneContract:
    """The contract of every backbone.

    Prefix, blocks and suffix compose to its forward pass wherever it is split; building it is repeatable and leaves the
    global generator alone; all is frozen; features have one shape; more masked blocks than blocks are refused::

        class TestMyNetwork(BackboneContract):
            backbone = "my_backbones:MyNetwork"
            settings = {"random_weights": True}

    Override the fixture :meth:`params` for several backbones.
    """

    #: The backbone: its name, ``package.module:Class`` or the class of its family.
    backbone: ClassVar[str | type[BackboneFamily] | None] = None
    #: Keys of its group.
    settings: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def params(self) -> ModelSettings:
        """The backbone's settings."""
        name = name_of(self.backbone, BACKBONES, "backbone")
        settings: ModelSettings = params_of(name, BACKBONES, {"masked_blocks": 1, **self.settings})
        return settings

    def test_it_has_a_name_and_a_line_for_listings(self, params: ModelSettings) -> None:
        check_named(BACKBONES.get(params.name))

    def test_its_parts_compose_to_its_forward_pass(self, params: ModelSettings) -> None:
        model = _build(params)
        backbone, size = model.backbone, model.backbone.input_size
        pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
        features = model.prefix_features(pixels)
        assert len(backbone.blocks) == params.masked_blocks
        assert features.dtype == torch.float32
        assert features.shape[0] == 2
        assert model.prefix_features(pixels[:1]).shape[1:] == features.shape[1:]
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
        images = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
        with torch.no_grad():
            embeddings = backbone(images)
            logits = model.network(features)
        assert embeddings.shape == (2, backbone.embedding_size)
        assert embeddings.isfinite().all()
        assert not torch.equal(embeddings[0], embeddings[1])
        torch.testing.assert_close(model.embed(features), embeddings, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logits, model.head(embeddings), rtol=1e-4, atol=1e-4)

    def test_all_is_frozen_and_there_is_something_to_mask(self, params: ModelSettings) -> None:
        model = _build(params)
        assert model.dimension > 0
        assert model.masked_names
        assert not any(p.requires_grad for p in model.network.parameters())
        assert not any(module.training for module in model.backbone.modules())

    def test_building_is_repeatable_wherever_it_is_split(self, params: ModelSettings) -> None:
        state = torch.get_rng_state()
        first = _build(params)
        second = build_model(params.model_copy(update={"masked_blocks": 2}), classes=10)
        assert torch.equal(torch.get_rng_state(), state)
        assert second.dimension > first.dimension
        pixels = np.random.default_rng(1).integers(0, 256, (1, *[first.backbone.input_size] * 2, 3), np.uint8)
        ours, theirs = (model.embed(model.prefix_features(pixels)) for model in (first, second))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        for one, other in zip(first.backbone.parameters(), second.backbone.parameters(), strict=True):
            assert torch.equal(one, other)

    def test_more_masked_blocks_than_blocks_is_an_error(self, params: ModelSettings) -> None:
        with pytest.raises(ConfigError, match=r"model.masked_blocks: found 1000, allowed: at most \d+"):
            build_model(params.model_copy(update={"masked_blocks": 1000}), classes=10)


@lru_cache(maxsize=1)
def _build(params: ModelSettings) -> TaskModel:
    """The same for all tests that only look at it."""
    return build_model(params, classes=10)
