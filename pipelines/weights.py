"""Weights of a DINOv2 ViT-S/14 from a local ONNX file, as a checkpoint of ``dinov2-small``; nothing is downloaded.

    python -m pipelines.weights MODEL.onnx dinov2.safetensors
    fedsim run model.name=dinov2-small model.checkpoint=dinov2.safetensors model.input_size=112

The file may hold more than the backbone, such as a decoder. The checkpoint is kept only if, loaded as a run loads it,
it gives the embeddings that the ONNX graph computes. Needs ``pip install onnx``, and no runtime beside it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

import fedsim
from fedsim.models import BACKBONES

_BACKBONE = "dinov2-small"
_LEAST_CORRELATION = 0.999  # timm interpolates positions with antialiasing, which not all exported graphs do
_IMAGES = 2
#: Names of Hugging Face's implementation and of timm; those of the original code are timm's.
_TIMM_NAMES = {
    "embeddings.cls_token": "cls_token",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "encoder.layer": "blocks",
    "attention.attention": "attn",
    "attention.output.dense": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "layernorm": "norm",
}
_KEPT = ("cls_token", "patch_embed.", "blocks.", "norm.")


def convert(source: Path, target: Path) -> float:
    """Write the weights of an ONNX file, and compare both networks on random images.

    Args:
        source: ONNX file of float32 weights, with the parameter names of Hugging Face's DINOv2 or of the original code.
        target: safetensors file to write.

    Returns:
        Correlation of the two networks' embeddings.

    Raises:
        ConfigError: onnx is not installed, the file holds no DINOv2 ViT-S/14, or the embeddings differ.
    """
    graph_model = _load(source)
    graph = graph_model.graph
    stored = _initialisers(graph)
    classes = [name for name in stored if name.endswith("cls_token")]
    if len(classes) != 1:
        raise fedsim.ConfigError(f"{source}: found {len(classes)} weights named cls_token, allowed: 1, of a DINOv2")
    owner = classes[0].removesuffix("cls_token").removesuffix("embeddings.")
    weights = _timm_weights(stored | _matrices(graph, stored), owner)
    weights["pos_embed"] = _positions(stored, weights["cls_token"])
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        checkpoint = Path(folder, target.name)
        save_file({name: value.contiguous() for name, value in weights.items()}, checkpoint)
        correlation = _correlation(graph_model, owner, checkpoint)
        if not correlation > _LEAST_CORRELATION:
            raise fedsim.ConfigError(
                f"{source}: found a correlation of {correlation:.4f} between the embeddings of the ONNX graph and of "
                f"{_BACKBONE} with its weights, allowed: above {_LEAST_CORRELATION}; nothing was written"
            )
        os.replace(checkpoint, target)
    return correlation


def _load(source: Path) -> Any:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise fedsim.ConfigError(f"onnx: found no package of this name ({error}), allowed: pip install onnx") from error
    try:
        return onnx.load(source)
    except (OSError, DecodeError) as error:
        raise fedsim.ConfigError(f"{source}: found no ONNX file ({error})") from error


def _initialisers(graph: Any) -> dict[str, Tensor]:
    from onnx.numpy_helper import to_array

    return {item.name: torch.from_numpy(to_array(item).copy()) for item in graph.initializer}


def _matrices(graph: Any, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Linear layers' weights: exporters store them transposed and without name, but add a bias that has one."""
    products = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    sums = [node.input for node in graph.node if node.op_type == "Add"]
    return {
        bias.removesuffix("bias") + "weight": stored[products[product]].T
        for pair in sums
        for bias, product in (pair, reversed(pair))
        if bias in stored and products.get(product) in stored
    }


def _timm_name(name: str, owner: str) -> str:
    name = name.removeprefix(owner)
    for theirs, ours in _TIMM_NAMES.items():
        name = name.replace(theirs, ours)
    return name


def _timm_weights(named: dict[str, Tensor], owner: str) -> dict[str, Tensor]:
    """The backbone's weights under timm's names, query, key and value in one."""
    weights = {_timm_name(name, owner): value for name, value in named.items() if name.startswith(owner)}
    weights = {name: value for name, value in weights.items() if name.startswith(_KEPT)}
    for name in [name for name in weights if ".query." in name]:
        parts = [weights.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        weights[name.replace("query", "qkv")] = torch.cat(parts)
    return weights


def _positions(stored: dict[str, Tensor], class_token: Tensor) -> Tensor:
    """Position embeddings: exporters may store that of the class token apart, and neither with a name."""
    width = class_token.shape[-1]
    found = [
        value
        for name, value in stored.items()
        if value.ndim == 3 and value.shape[::2] == (1, width) and not name.endswith("token")
    ]
    return torch.cat(sorted(found, key=lambda value: value.shape[1]), 1)


def _correlation(graph_model: Any, owner: str, checkpoint: Path) -> float:
    from onnx.helper import make_empty_tensor_value_info
    from onnx.reference import ReferenceEvaluator

    graph = graph_model.graph
    [image] = [item for item in graph.input if item.name not in _initialisers(graph)]
    size = image.type.tensor_type.shape.dim[-1].dim_value or 224  # 0 where the file leaves it open
    config = fedsim.load_config({"model": {"name": _BACKBONE, "checkpoint": str(checkpoint), "input_size": size}})
    backbone = BACKBONES.get(_BACKBONE).build(config.model).eval()
    images = np.random.default_rng(0).normal(size=(_IMAGES, 3, size, size)).astype(np.float32)
    [last] = _normalised(graph, owner)
    del graph.node[last + 1 :], graph.output[:]
    tokens = graph.node[last].output[0]
    graph.output.append(make_empty_tensor_value_info(tokens))
    [expected] = ReferenceEvaluator(graph_model).run([tokens], {image.name: images})
    with torch.no_grad():
        embeddings = backbone(torch.from_numpy(images)).numpy()
    return float(np.corrcoef(expected[:, 0].ravel(), embeddings.ravel())[0, 1])


def _normalised(graph: Any, owner: str) -> Iterator[int]:
    """The node that ends the last layer normalisation."""
    return (i for i, node in enumerate(graph.node) if any(_timm_name(x, owner) == "norm.bias" for x in node.input))


def main() -> None:
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, metavar="MODEL.onnx", help="file that holds a DINOv2 ViT-S/14")
    parser.add_argument("target", type=Path, metavar="OUT.safetensors", help="checkpoint to write")
    arguments = parser.parse_args()
    try:
        correlation = convert(arguments.source, arguments.target)
    except fedsim.ConfigError as error:
        raise SystemExit(str(error)) from error
    print(f"weights   {arguments.target}, correlation of the embeddings {correlation:.5f}")


if __name__ == "__main__":
    main()
