"""The recipe that reads DINOv2 out of an ONNX file: names, order, and the refusal of what it misreads."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fedsim import ConfigError
from fedsim.models import BACKBONES, build_model
from pipelines import weights

onnx = pytest.importorskip("onnx")

WIDTH, DEPTH, HEADS, SIZE = 384, 12, 6, 28
EMBEDDINGS, LAYER = "net.embeddings", "net.encoder.layer"


@pytest.fixture(scope="module")
def parameters():
    """Random weights of a ViT-S/14 for 28 pixels, by Hugging Face's names, matrices as PyTorch has them."""
    shapes = {
        f"{EMBEDDINGS}.cls_token": (1, 1, WIDTH),
        f"{EMBEDDINGS}.position_embeddings": (1, 5, WIDTH),
        f"{EMBEDDINGS}.patch_embeddings.projection.weight": (WIDTH, 3, 14, 14),
        f"{EMBEDDINGS}.patch_embeddings.projection.bias": (WIDTH,),
        "net.layernorm.weight": (WIDTH,),
        "net.layernorm.bias": (WIDTH,),
        "decoder.norm.bias": (7,),
    }
    linear = {"attention.attention.query": 1, "attention.attention.key": 1, "attention.attention.value": 1}
    linear |= {"attention.output.dense": 1, "mlp.fc1": 4}
    for block in (f"{LAYER}.{index}" for index in range(DEPTH)):
        for name, factor in linear.items():
            shapes |= {f"{block}.{name}.weight": (factor * WIDTH, WIDTH), f"{block}.{name}.bias": (factor * WIDTH,)}
        shapes |= {f"{block}.mlp.fc2.weight": (WIDTH, 4 * WIDTH), f"{block}.mlp.fc2.bias": (WIDTH,)}
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            shapes[f"{block}.{name}"] = (WIDTH,)
        shapes |= {f"{block}.layer_scale{index}.lambda1": (WIDTH,) for index in (1, 2)}
    rng = np.random.default_rng(0)
    scales = {name: 0.5 if len(shape) in (1, 3) else shape[-1] ** -0.5 for name, shape in shapes.items()}
    return {name: rng.normal(size=shape, scale=scales[name]).astype(np.float32) for name, shape in shapes.items()}


def graph_of(parameters, misread=False):
    """The network as an exporter writes it: matrices transposed and nameless, positions in two nameless parts."""
    stored, nodes = {}, []

    def node(operator, *inputs, **attributes):
        nodes.append(onnx.helper.make_node(operator, inputs, [f"t{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    def constant(value, name=None):
        name = name or f"onnx::{len(stored)}"
        stored[name] = np.asarray(value)
        return name

    def named(name):
        return constant(parameters[name], name)

    def linear(inputs, name):
        product = node("MatMul", inputs, constant(parameters[f"{name}.weight"].T.copy()))
        return node("Add", named(f"{name}.bias"), product)

    def norm(inputs, name):
        return node("LayerNormalization", inputs, named(f"{name}.weight"), named(f"{name}.bias"), epsilon=1e-6)

    def heads(inputs, order):
        return node("Transpose", node("Reshape", inputs, constant([0, 0, HEADS, WIDTH // HEADS])), perm=order)

    projection = f"{EMBEDDINGS}.patch_embeddings.projection"
    kernel = {"kernel_shape": [14, 14], "strides": [14, 14]}
    patches = node("Conv", "image", named(f"{projection}.weight"), named(f"{projection}.bias"), **kernel)
    patches = node("Transpose", node("Reshape", patches, constant([0, WIDTH, -1])), perm=[0, 2, 1])
    count = node("Concat", node("Shape", patches, end=1), constant([1, 1]), axis=0)
    tokens = node("Concat", node("Expand", named(f"{EMBEDDINGS}.cls_token"), count), patches, axis=1)
    positions = parameters[f"{EMBEDDINGS}.position_embeddings"]
    grid, first = constant(positions[:, 1:]), constant(positions[:, :1])
    tokens = node("Add", tokens, node("Concat", first, grid, axis=1))
    for block in (f"{LAYER}.{index}" for index in range(DEPTH)):
        inputs, attention = norm(tokens, f"{block}.norm1"), f"{block}.attention.attention"
        key = heads(linear(inputs, f"{attention}.key"), [0, 2, 3, 1])
        value = heads(linear(inputs, f"{attention}.value"), [0, 2, 1, 3])
        query = heads(linear(inputs, f"{attention}.query"), [0, 2, 1, 3])
        scores = node("Mul", node("MatMul", query, key), constant(np.float32((WIDTH / HEADS) ** -0.5)))
        mixed = node("Transpose", node("MatMul", node("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
        mixed = linear(node("Reshape", mixed, constant([0, 0, WIDTH])), f"{block}.attention.output.dense")
        tokens = node("Add", node("Mul", mixed, named(f"{block}.layer_scale1.lambda1")), tokens)
        hidden = node("Gelu", linear(norm(tokens, f"{block}.norm2"), f"{block}.mlp.fc1"))
        if misread:
            hidden = node("Relu", hidden)
        hidden = linear(hidden, f"{block}.mlp.fc2")
        tokens = node("Add", node("Mul", hidden, named(f"{block}.layer_scale2.lambda1")), tokens)
    node("Add", node("ReduceMean", norm(tokens, "net.layernorm")), named("decoder.norm.bias"))
    float32, value_info = onnx.TensorProto.FLOAT, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "vit",
        [value_info("image", float32, ["n", 3, SIZE, SIZE])],
        [value_info(nodes[-1].output[0], float32, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])


def test_weights_go_where_the_backbone_wants_them(parameters, tmp_path):
    onnx.save(graph_of(parameters), tmp_path / "vit.onnx")
    path = tmp_path / "new" / "vit.safetensors"
    assert weights.convert(tmp_path / "vit.onnx", path) > 0.99999
    found = load_file(path)
    attention = f"{LAYER}.3.attention.attention"
    parts = [parameters[f"{attention}.{part}.weight"] for part in ("query", "key", "value")]
    assert np.array_equal(found["blocks.3.attn.qkv.weight"], np.concatenate(parts))
    assert np.array_equal(found["pos_embed"], parameters[f"{EMBEDDINGS}.position_embeddings"])
    for size in (SIZE, 112):
        settings = BACKBONES.get("dinov2-small").Params(name="dinov2-small", checkpoint=str(path), input_size=size)
        model = build_model(settings, classes=10)
        assert model.embed(model.prefix_features(np.zeros((1, size, size, 3), np.uint8))).shape == (1, WIDTH)


def test_the_names_of_the_original_code_are_read_too(parameters):
    owner = "net."
    weights_by_name = {name: torch.from_numpy(value) for name, value in parameters.items()}
    expected = weights._timm_weights(weights_by_name, owner)
    again = weights._timm_weights({f"backbone.{name}": value for name, value in expected.items()}, "backbone.")
    assert expected.keys() == again.keys()
    assert len(expected) == 4 + 1 + 12 * 14
    assert not any("decoder" in name or "query" in name for name in expected)


def test_a_network_that_computes_something_else_is_refused(parameters, tmp_path):
    onnx.save(graph_of(parameters, misread=True), tmp_path / "vit.onnx")
    command = [sys.executable, "-m", "pipelines.weights", tmp_path / "vit.onnx", tmp_path / "vit.safetensors"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "found a correlation of 0." in done.stderr
    assert "allowed: above 0.999; nothing was written" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["vit.onnx"]


def test_files_of_other_content_are_refused(parameters, tmp_path):
    source, target = tmp_path / "vit.onnx", tmp_path / "vit.safetensors"
    with pytest.raises(ConfigError, match="found no ONNX file"):
        weights.convert(source, target)
    source.write_bytes(b"neither")
    with pytest.raises(ConfigError, match="found no ONNX file"):
        weights.convert(source, target)
    model = graph_of(parameters)
    del model.graph.initializer[:]
    onnx.save(model, source)
    with pytest.raises(ConfigError, match="found 0 weights named cls_token, allowed: 1"):
        weights.convert(source, target)
    model = graph_of(parameters)
    [last] = [item for item in model.graph.initializer if item.name == "net.layernorm.bias"]
    model.graph.initializer.remove(last)
    onnx.save(model, source)
    with pytest.raises(ConfigError, match=r"does not fit this backbone: missing norm.bias"):
        weights.convert(source, target)
    assert list(tmp_path.iterdir()) == [source]
