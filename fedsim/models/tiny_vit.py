"""A small vision transformer for 32 x 32 images, the default backbone."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from fedsim.models.backbone import Backbone, BackboneFamily, PretrainedSettings
from fedsim.models.checkpoint import load_weights

_EMBEDDED = Path(__file__).with_name("tiny-vit.safetensors")


class TinyViT(nn.Module):
    """Convolutional stem, 16 tokens, pre-norm blocks, mean of the normalised tokens."""

    def __init__(self, width: int = 128, depth: int = 8, heads: int = 4) -> None:
        super().__init__()
        self.width = width
        self.stem = _Stem(width)
        blocks = [
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        ]
        self.blocks = nn.ModuleList(blocks)
        self.pool = _Pool(width)
        self.apply(_initialise)
        for block in blocks:  # residual branches share the scale of one, as in GPT-2
            for weight in (block.self_attn.out_proj.weight, block.linear2.weight):
                weight.data.div_((2 * depth) ** 0.5)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings of normalised images: float32 of shape ``(b, 3, 32, 32)`` to ``(b, width)``."""
        tokens = self.stem(images)
        for block in self.blocks:
            tokens = block(tokens)
        embeddings: Tensor = self.pool(tokens)
        return embeddings


class TinyViTFamily(BackboneFamily):
    """:class:`TinyViT` of width 128 and depth 8: 1.7 million parameters, 983,040 of them in five masked blocks.

    Its weights come with the package; ``python -m pipelines.pretrain`` made them, from procedural images alone.
    """

    name = "tiny-vit"
    summary = "vision transformer, 32x32 input, width 128, depth 8; embedded weights, pretrained on procedural images"
    Params = PretrainedSettings

    @classmethod
    def build(cls, params: PretrainedSettings) -> Backbone:
        network = TinyViT()
        if params.checkpoint is not None:
            load_weights(network, params.checkpoint)
        elif not params.random_weights:
            load_weights(network, str(_EMBEDDED), key="model.name")
        return Backbone(
            network.stem,
            list(network.blocks),
            network.pool,
            masked_blocks=params.masked_blocks,
            input_size=32,
            embedding_size=network.width,
            weights="checkpoint" if params.checkpoint else "random" if params.random_weights else "embedded",
        )


def _initialise(layer: nn.Module) -> None:
    """He initialisation without biases, so that a signal keeps its scale through random layers."""
    if isinstance(layer, (nn.Conv2d, nn.Linear)):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)


class _Stem(nn.Module):
    """Three strided convolutions, 32 x 32 pixels to 4 x 4 tokens, plus learned positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, width // 4, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(width // 4, width // 2, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1),
        )
        self.positions = nn.Parameter(0.02 * torch.randn(1, 16, width))

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.convolutions(images).flatten(2).transpose(1, 2)
        return tokens + self.positions


class _Pool(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        pooled: Tensor = self.norm(tokens).mean(1)
        return pooled
