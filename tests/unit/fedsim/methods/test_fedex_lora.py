"""FedEx-LoRA: the network after a round is that with the mean of the clients' products."""

import numpy as np
import pytest
import torch

from deltamask import stream_key
from deltamask.uploads import pack_relay
from fedsim.compression import make_compressor
from fedsim.engine import Federation, SerialExecutor, make_model
from fedsim.methods import METHODS
from fedsim.testing import run_rounds


def products(config, vector):
    """``scale * B A`` of each weight, float64."""
    net = METHODS.get("lora").flatten(config.method, config, make_model(config, classes=10))
    return [net.scale * b @ a for a, b in net.factors(torch.from_numpy(vector).double())]


@pytest.mark.parametrize(
    ("clients", "rank", "dense"), [(3, 4, False), (5, 80, True)], ids=["uploads are shorter", "dense is shorter"]
)
def test_weights_change_by_the_mean_of_the_clients_products(small_config, clients, rank, dense):
    shape = [f"partition.clients={clients}", f"method.rank={rank}", "partition.name=quantity", "train.lr=0.01"]
    config = small_config("method.name=fedex-lora", *shape, "rounds=2")
    executor, federation, outcomes = run_rounds(config)
    compressor = make_compressor(config.method.compressor)
    vector = Federation(config, SerialExecutor(config)).state()["method.vector"]
    # Residuals of earlier rounds stay in the weights, which the clients' products are on top of.
    residuals = [torch.zeros_like(product) for product in products(config, vector)]
    for index in (1, 2):
        samples = [row["samples"] for row in outcomes[index].clients]
        vectors = [
            vector
            + compressor.decode(
                executor.content(index, k),
                vector.size,
                stream_key(0, "compression", index, k),
            )
            for k in range(clients)
        ]
        wanted = [
            residual + sum(n / sum(samples) * product for n, product in zip(samples, of_clients, strict=True))
            for residual, of_clients in zip(
                residuals, zip(*(products(config, v) for v in vectors), strict=True), strict=True
            )
        ]
        vector = np.average(vectors, axis=0, weights=samples).astype(np.float32)
        residuals = [total - own for total, own in zip(wanted, products(config, vector), strict=True)]
    state = federation.state()
    assert np.allclose(state["method.vector"], vector, atol=1e-7)
    net = METHODS.get("fedex-lora").flatten(config.method, config, make_model(config, classes=10))
    net.residual_d.copy_(torch.from_numpy(state["method.residual"]))
    for change, expected, inexact in zip(
        net.changes(torch.from_numpy(state["method.vector"])), wanted, products(config, vector), strict=True
    ):
        assert (change - expected).norm() < 1e-6 * expected.norm()
        assert (inexact - expected).norm() > 1e-2 * expected.norm()
    step = federation.downlink.current("method", federation.servers["method"]).step
    if dense:
        head = sum(array.size for array in federation.model.head_state().values())
        assert len(step) == pytest.approx(4 * (vector.size + state["method.residual"].size + head), rel=1e-3)
    else:
        assert step == pack_relay(2, [(k, executor.uploads[2, k]) for k in range(clients)])


def test_the_first_broadcast_has_no_residual_and_a_lone_client_makes_none(small_config):
    executor, federation, _ = run_rounds(small_config("method.name=fedex-lora", "partition.clients=1", "rounds=2"))
    assert not federation.state()["method.residual"].any()
    first, second = (len(executor.broadcasts[index].full) for index in (1, 2))
    assert second - first == pytest.approx(4 * federation.state()["method.vector"].size, rel=0.01)
