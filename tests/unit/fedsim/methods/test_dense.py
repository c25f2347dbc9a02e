"""Dense updates: weighted means, momentum of the server, error feedback."""

import numpy as np
import pytest

from deltamask import stream_key
from deltamask.uploads import split_weight
from fedsim.compression import make_compressor
from fedsim.engine import Federation, SerialExecutor, make_model
from fedsim.engine._client_states import ClientStates
from fedsim.methods import METHODS
from fedsim.testing import run_rounds


def mean_update(executor, federation, method, weights):
    compressor = make_compressor(method.compressor)
    size = federation.state()["method.vector"].size
    sent = [split_weight(executor.uploads[1, client], method.weighted) for client in range(len(weights))]
    assert [weight for _, weight in sent] == weights
    updates = [
        compressor.decode(upload, size, stream_key(0, "compression", 1, client))
        for client, (upload, _) in enumerate(sent)
    ]
    return np.average(updates, axis=0, weights=weights)


@pytest.mark.parametrize(("method", "weighted"), [("fedavg", True), ("drive", False), ("lora", True)])
def test_the_server_adds_the_mean_of_the_updates_weighted_as_each_paper_says(small_config, method, weighted):
    config = small_config(f"method.name={method}", "rounds=1", "partition.clients=3", "partition.name=quantity")
    executor, federation, outcomes = run_rounds(config)
    start = Federation(config, executor).state()["method.vector"]
    weights = [row["samples"] if weighted else 1 for row in outcomes[1].clients]
    expected = start + mean_update(executor, federation, config.method, weights)
    assert np.allclose(federation.state()["method.vector"], expected, atol=1e-6)


def test_server_momentum_and_learning_rate(small_config):
    plain = small_config("method.name=fedavg", "rounds=1")
    changed = small_config("method.name=fedavg", "rounds=2", "method.server_lr=0.5", "method.server_momentum=0.9")
    start = Federation(plain, executor := SerialExecutor(plain)).state()["method.vector"]
    other = Federation(changed, SerialExecutor(changed))
    full = Federation(plain, executor)
    vectors = []
    for federation in (full, other):
        federation.run_round()
        federation.run_round()
        vectors.append(federation.state()["method.vector"])
    assert np.allclose(vectors[1] - start, 0.5 * (vectors[0] - start), atol=1e-7)
    momentum = other.state()["method.momentum"]
    other.run_round()
    step = other.state()["method.vector"] - vectors[1]
    assert np.allclose(step, 0.5 * other.state()["method.momentum"], atol=1e-7)
    assert np.abs(other.state()["method.momentum"] - 0.9 * momentum).max() > 1e-5


def test_error_feedback_keeps_what_was_not_sent_for_the_clients_next_round(small_config):
    overrides = ["method.name=fedavg", "method.compressor.name=top-k", "rounds=2", "partition.clients=2"]
    config = small_config(*overrides, "method.error_feedback=true")
    executor, federation, _ = run_rounds(config)
    plain, *_ = run_rounds(small_config(*overrides))
    assert executor.uploads[1, 0] == plain.uploads[1, 0]
    assert executor.uploads[2, 0] != plain.uploads[2, 0]
    states = ClientStates(config.output, config.run_id)
    compressor = make_compressor(config.method.compressor)
    for client in range(2):
        key = stream_key(config.seed, "compression", 2, client)
        sent = compressor.decode(executor.content(2, client), federation.dimension, key)
        kept = states.read(client, 2)
        assert not kept[sent != 0].any()
        assert np.count_nonzero(kept) > 0.9 * federation.dimension


@pytest.mark.parametrize("rate", [1, 4])
def test_a_coarse_downlink_is_short_and_its_error_is_sent_later(small_config, rate):
    overrides = ["method.name=fedavg", "rounds=6", "partition.clients=2", "model.masked_blocks=1"]
    config = small_config(*overrides, "method.downlink.name=eden", f"method.downlink.rate={rate}")
    executor, federation, _ = run_rounds(config)
    assert len(executor.broadcasts[3].step) < (rate / 8 + 0.01) * federation.dimension
    state = federation.state()
    sent, unsent = state["method.vector"], state["method.unsent"]
    assert np.linalg.norm(unsent) > 0
    server = federation.servers["method"]
    assert np.array_equal(_client_vector(config, server), sent)  # training starts from the coarser model
    exact = run_rounds(small_config(*overrides))[1].state()["method.vector"]
    start = Federation(config, executor).state()["method.vector"]
    # What was sent and what was not are together the sum of the updates, though those are of a coarser model.
    assert np.corrcoef(sent + unsent - start, exact - start)[0, 1] > 0.8


def _client_vector(config, server):
    client = METHODS.get("fedavg").client(config.method, config, make_model(config, classes=10))
    return client.receive(server.broadcast())["vector"]
