"""What is particular to DeltaMask and its recommended preset."""

import numpy as np
import pytest

from fedsim import ConfigError
from fedsim.engine import Federation, make_model
from fedsim.methods import METHODS
from fedsim.testing import RecordingExecutor, run_rounds


def test_deltamask_counts_flips_as_the_codec_makes_them(small_config):
    for codec, rate in (("fuse8+png", 2**-8), ("fuse16", 2**-16)):
        _, federation, outcomes = run_rounds(small_config(f"method.codec={codec}", "rounds=1"))
        row, clients = outcomes[1].round, outcomes[1].clients
        expected = rate * len(clients) * federation.dimension
        assert row["flips"] == sum(c["sent_size"] for c in clients) + row["false_flips"]
        assert abs(row["false_flips"] - expected) < 6 * np.sqrt(expected) + 1
        assert all(c["sent_size"] == int(np.ceil(0.8 * c["delta_size"])) for c in clients)


def test_deltamask_resets_its_posterior_by_participation(small_config):
    _, federation, _ = run_rounds(small_config("participation=0.5", "partition.clients=4", "rounds=3"))
    posterior = federation.servers["method"]._probabilities
    assert posterior.reset_every == 2
    assert posterior.trials == 2  # the third round of two clients, after the reset of the second


def test_deltamask_head_is_frozen_after_its_round(small_config):
    executor = RecordingExecutor(config := small_config())
    federation = Federation(config, executor)
    federation.run_round()
    head = federation.model.head_state()
    federation.run_round()
    federation.run_round()
    assert all(np.array_equal(head[name], array) for name, array in federation.model.head_state().items())
    assert all(array.any() for array in head.values())


MASKS = {
    "posterior": ["method.name=deltamask", "method.reset_every=2"],
    "random start": ["method.name=deltamask", "method.scores_init=normal"],
    "coupled": ["method.name=deltamask-plus", "method.server_momentum=0", "method.weighting=uniform"],
    "momentum": ["method.name=deltamask-plus"],
    "inexact": ["method.name=deltamask-plus", "method.codec=fuse8+png"],
}


@pytest.mark.parametrize("name", MASKS)
def test_deltas_of_masks_are_far_smaller_than_theta_and_lead_to_it(name, small_config):
    config = small_config(*MASKS[name], "rounds=3", "partition.clients=3")
    executor, federation, _ = run_rounds(config)
    client = METHODS.get(config.method.name).client(config.method, config, make_model(config, classes=10))
    state = client.receive(executor.broadcasts[1].full)
    for index in (2, 3):
        state = client.receive_delta(executor.broadcasts[index].delta, state)
        assert np.array_equal(state.theta_d, client.receive(executor.broadcasts[index].full).theta_d)
        # At most 3 bits a parameter, of 32.
        assert len(executor.broadcasts[index].delta) < 3 / 8 * federation.dimension
    assert len(executor.broadcasts[1].full) < 10_000  # the head: theta is known at the start


@pytest.mark.parametrize("mode", ["common", "independent"])
def test_other_uniforms_cost_what_they_should(mode, small_config):
    def sizes(*overrides):
        return run_rounds(small_config("rounds=2", "partition.clients=3", "method.codec=range", *overrides))[2][2].round

    usual, other = sizes(), sizes(f"method.reference={mode}")
    if mode == "common":  # the masks of all clients differ from one reference, so theta is polarised at once
        assert other["bound_share"] > usual["bound_share"] + 0.02
    else:  # two draws differ wherever theta is not near 0 or 1
        assert other["uplink_bytes"] > 3 * usual["uplink_bytes"]


def test_a_penalty_on_flips_saves_flips(small_config):
    flips = [
        run_rounds(small_config("rounds=1", "method.name=deltamask-plus", f"method.flip_penalty={penalty}"))[2][1]
        for penalty in (0, 1e-4)
    ]
    assert sum(row["delta_size"] for row in flips[1].clients) < 0.9 * sum(row["delta_size"] for row in flips[0].clients)


def test_parameters_that_the_aggregation_ignores_are_refused(small_config):
    with pytest.raises(
        ConfigError, match=r"server_momentum: found 0\.9, allowed: none, .* aggregation is 'coupled-diff"
    ):
        small_config("method.server_momentum=0.9")


def test_deltamask_with_an_exact_codec_has_no_false_flips(small_config):
    _, _, outcomes = run_rounds(small_config("method.codec=range"))
    assert all(outcome.round["false_flips"] == 0 for outcome in outcomes[1:])
    _, _, inexact = run_rounds(small_config())
    assert outcomes[1].round["uplink_bytes"] < 0.5 * inexact[1].round["uplink_bytes"]
