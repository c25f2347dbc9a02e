"""Adapters whose aggregation is exact: the server's network is that with the mean of the clients' products."""

import numpy as np
import pytest
import torch

from deltamask import stream_key
from deltamask.payload import HEADER_BYTES
from fedsim.compression import make_compressor
from fedsim.engine import Federation, SerialExecutor, make_model
from fedsim.methods import METHODS
from fedsim.methods.fed_sb import singular_vectors
from fedsim.testing import run_rounds


def changes_of_server_and_of_clients(config):
    """Changes of each weight by the server's vector, and the mean of those by the clients', weighted by samples."""
    executor, federation, outcomes = run_rounds(config)
    start = Federation(config, SerialExecutor(config)).state()["method.vector"]
    net = METHODS.get(config.method.name).flatten(config.method, config, make_model(config, classes=10))
    compressor, samples = make_compressor(config.method.compressor), [row["samples"] for row in outcomes[1].clients]
    shares = torch.tensor(samples, dtype=torch.float64) / sum(samples)
    vectors = [
        start + compressor.decode(executor.content(1, k), start.size, stream_key(config.seed, "compression", 1, k))
        for k in range(len(samples))
    ]
    server = list(net.changes(torch.from_numpy(federation.state()["method.vector"])))
    clients = [
        torch.stack([*change]) for change in zip(*(net.changes(torch.from_numpy(v)) for v in vectors), strict=True)
    ]
    return server, [torch.einsum("k,kij->ij", shares, change.double()) for change in clients]


@pytest.mark.parametrize(("method", "exact"), [("ffa-lora", True), ("fed-sb", True), ("lora", False)])
def test_the_mean_of_factors_is_the_mean_of_products_where_one_is_frozen(small_config, method, exact):
    shape = ["rounds=1", "partition.clients=3", "partition.name=quantity", "train.lr=0.01", "train.epochs=2"]
    server, clients = changes_of_server_and_of_clients(small_config(f"method.name={method}", *shape))
    for found, expected in zip(server, clients, strict=True):
        assert expected.abs().max() > 1e-3
        error = (found.double() - expected).norm() / expected.norm()
        assert (error < 1e-5) == exact, error


def test_ffa_lora_sends_b_alone_and_keeps_the_a_of_lora(small_config):
    config = small_config("method.name=ffa-lora", "method.rank=2", "rounds=1")
    executor, federation, _ = run_rounds(config)
    # One block of width 128: in_proj (384, 128), out_proj (128, 128), linear1 (512, 128), linear2 (128, 512).
    rows = 384 + 128 + 512 + 128
    assert len(executor.content(1, 0)) == HEADER_BYTES + 4 * 2 * rows
    assert federation.state()["method.vector"].any()
    model = make_model(config, classes=10)
    net, lora = (METHODS.get(name).flatten(config.method, config, model) for name in ("ffa-lora", "lora"))
    for (a, b), (initial, _) in zip(net.factors(torch.ones(2 * rows)), lora.factors(lora.weights_d), strict=True):
        assert torch.equal(a, initial)
        assert np.array_equal(b, np.ones(b.shape))


def test_fed_sb_sends_cores_between_the_singular_vectors_of_the_frozen_weights(small_config):
    config = small_config("method.name=fed-sb", "method.rank=3", "method.targets=attn", "rounds=1")
    executor, _, _ = run_rounds(config)
    assert len(executor.content(1, 0)) == HEADER_BYTES + 4 * 2 * 3 * 3
    net = METHODS.get("fed-sb").flatten(config.method, config, make_model(config, classes=10))
    for weight, (b, a), change in zip(net.weights(), net.bases, net.changes(torch.ones(2 * 9)), strict=True):
        assert torch.allclose(b.T @ b, torch.eye(3), atol=1e-5)
        assert torch.allclose(a @ a.T, torch.eye(3), atol=1e-5)
        # The core of the weight itself is diagonal, with its largest singular values.
        expected = torch.diag(torch.linalg.svdvals(weight)[:3])
        assert torch.allclose(b.T @ weight @ a.T, expected, atol=1e-4)
        assert torch.allclose(change, torch.outer(b.sum(1), a.sum(0)), atol=1e-5)


def test_singular_vectors_have_one_sign_and_are_no_more_than_there_are():
    matrix = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 3), np.float32))
    b, a = singular_vectors(matrix, 8)
    assert (b.shape, a.shape) == ((5, 3), (3, 3))
    other_b, other_a = singular_vectors(-matrix, 8)
    assert torch.allclose(other_b, b, atol=1e-5)
    assert torch.allclose(other_a, -a, atol=1e-5)
