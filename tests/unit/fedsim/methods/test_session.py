"""The library's server takes the uploads of a simulated run: the same states, and the same bytes to clients."""

import numpy as np
import pytest

import deltamask as dm
from fedsim.testing import run_rounds, small_config


@pytest.mark.parametrize("method", ["deltamask", "deltamask-plus"])
def test_a_server_outside_the_simulator_gets_to_its_states(tmp_path, method):
    config = small_config(tmp_path, f"method.name={method}", "rounds=2", "data.train_samples=200", "participation=0.5")
    executor, federation, outcomes = run_rounds(config)
    options = {
        "seed": config.seed,
        "codec": config.method.codec,
        "max_weight": 10**6 if config.method.weighted else None,
    }
    make = lambda: config.method.initial(config, federation.dimension)  # noqa: E731
    server, client = dm.Server(make(), relay=True, **options), dm.Client(0, make(), **options)
    client.receive(server.message())
    for outcome in outcomes[1:]:
        for row in reversed(outcome.clients):
            server.accept(row["client"], executor.uploads[server.round, row["client"]])
        server.step()
        message = server.message(client.round)
        if server.round in executor.broadcasts:
            assert executor.broadcasts[server.round].step in message
        client.receive(message)
    for end in (server, client):
        theirs = federation.servers["method"].state()
        assert all(np.array_equal(array, theirs[name]) for name, array in end.probabilities.state().items())
