"""Differential privacy of whole runs: bounds and noise at the server, and the epsilon that is spent."""

import sys

import numpy as np
import pytest
from opacus.accountants import RDPAccountant

import deltamask as dm
import fedsim
from fedsim.data import load_dataset
from fedsim.data.partition import make_partition
from fedsim.engine import Federation
from fedsim.methods.dp_sgd import sampling
from fedsim.methods.privacy import ClientPrivacy
from fedsim.settings import PrivacySettings
from fedsim.testing import RecordingExecutor, run_rounds

TINY = ["data.train_samples=200", "data.test_samples=50", "model={name: mlp, size: 8, masked_blocks: 1}"]
MASKS = {
    "posterior": ["method.name=deltamask", "method.codec=range"],
    "false flips": ["method.name=deltamask"],
    "coupled": ["method.name=deltamask-plus", "method.kappa=1"],
    "coupled false flips": ["method.name=deltamask-plus", "method.codec=fuse8"],
}
CLIENTS = ["privacy.client_clip=5", "privacy.client_noise=2"]
DENSE = ["method.name=eden", "privacy.client_clip=0.03", "privacy.client_noise=0.5"]


@pytest.fixture(params=MASKS)
def masks(request, small_config):
    return run_rounds(small_config(*TINY, *MASKS[request.param], *CLIENTS))


def test_both_sides_agree_after_noised_rounds_and_states_stay_integers(masks):
    executor, federation, _ = masks
    client = executor.trainer._clients["method"]
    before, after = (executor.broadcasts[index] for index in (1, 2))
    assert after.relay is None
    assert after.delta is not None
    received = client.receive_delta(after.delta, client.receive(before.full))
    whole = client.receive(after.full)
    for name, array in whole.probabilities.state().items():
        assert array.dtype.kind == "i"
        assert np.array_equal(array, received.probabilities.state()[name])
    assert np.array_equal(whole.theta_d, received.theta_d)
    server = federation.servers["method"]
    final = client.receive(server.broadcast()).probabilities.state()
    assert all(np.array_equal(final[name], array) for name, array in server._probabilities.state().items())


def test_sums_of_masks_have_the_noise_that_the_settings_say(masks):
    executor, federation, _ = masks
    config, server = executor._config, federation.servers["method"]
    before = executor.trainer._clients["method"].receive(executor.broadcasts[1].full).probabilities
    noised = dm.unpack_sums(executor.broadcasts[2].delta, before)
    server._probabilities = before  # which uploads of round 1 are decoded by
    for client in range(config.partition.clients):
        decoded = server.decode(1, client, executor.content(1, client))
        assert 0 < decoded.flips.size <= 25
        assert np.array_equal(np.flatnonzero(decoded.mask_d != decoded.reference_d), decoded.flips)
        before.observe(decoded.mask_d, decoded.reference_d)
    assert noised.total == config.partition.clients
    noise_d = noised.sums_d - before.round_sums.sums_d
    # False flips are corrected for, so a flip changes its sum by 1 / rate, in integers.
    unit = 256 if config.method.codec == "fuse8" else 1
    assert noise_d.std() == pytest.approx(((2 * 5 * unit) ** 2 + 1 / 12) ** 0.5, rel=0.05)
    assert abs(noise_d.mean()) < 4 * noise_d.std() / noise_d.size**0.5


def test_dense_updates_are_clipped_on_both_sides_and_their_sum_is_noised(small_config):
    executor, federation, _ = run_rounds(small_config(*TINY, *DENSE, "rounds=1"))
    server, config = federation.servers["method"], executor._config
    decoded = [server.decode(1, client, executor.content(1, client)) for client in range(config.partition.clients)]
    assert all(np.linalg.norm(update_d) == pytest.approx(0.03, rel=1e-5) for update_d in decoded)
    assert np.linalg.norm(server._compressed.decode(executor.content(1, 0), 1, 0)) > 0.03  # longer by compression
    start_d = executor.trainer._clients["method"].receive(executor.broadcasts[1].full)["vector"]
    noise_d = (server.state()["vector"] - start_d) * len(decoded) - np.sum(decoded, axis=0)
    assert noise_d.std() == pytest.approx(0.03 * 0.5, rel=0.05)
    assert not server.replayable


def test_an_update_within_the_bound_stays_as_it_is():
    privacy = ClientPrivacy(PrivacySettings(client_clip=5), 0)
    update_d = np.array([3, 4, 0], np.float32)
    assert privacy.clipped(update_d) is update_d
    np.testing.assert_allclose(privacy.clipped(2 * update_d), update_d)
    assert ClientPrivacy(PrivacySettings(), 0).clipped(100 * update_d)[0] == 300


@pytest.mark.parametrize("keys", [[*MASKS["coupled"], *CLIENTS], [*DENSE, "privacy.clip=1", "privacy.noise=1"]])
def test_a_run_that_is_resumed_draws_and_spends_the_same(keys, small_config):
    config = small_config(*TINY, *keys, "participation=0.5", "rounds=3")
    whole = [outcome.round for outcome in run_rounds(config)[2]]
    first = Federation(config, RecordingExecutor(config))
    for _ in range(2):
        first.run_round()
    second = Federation(config, RecordingExecutor(config))
    second.restore(first.state())
    rows = [second.run_round().round for _ in range(2)]
    for column in ("state_digest", "client_epsilon", "epsilon"):
        assert [row.get(column) for row in rows] == [row.get(column) for row in whole[2:]]
    assert whole[3]["client_epsilon"] > whole[2]["client_epsilon"] > 0


def test_epsilon_is_that_of_opacus(small_config):
    skewed = ["partition={name: dirichlet, alpha: 0.3, clients: 6}", "participation=0.5", "train.batch_size=8"]
    keys = ["method.name=eden", "train.epochs=2", "privacy={clip: 1, noise: 1.5, client_clip: 1, client_noise: 3}"]
    config = small_config(*TINY, *skewed, *keys, "privacy.delta=1e-3", "rounds=3")
    outcomes = run_rounds(config)[2]
    assert not {"epsilon", "client_epsilon"} & outcomes[0].round.keys()
    samples = make_partition(load_dataset(config.data, config.seed), config.partition, config.seed).sizes()
    accountants = {client: RDPAccountant() for client in range(6)}
    of_clients = RDPAccountant()
    for outcome in outcomes[1:]:
        of_clients.step(noise_multiplier=3, sample_rate=0.5)
        for client in outcome.clients:
            rate, steps = sampling(config.train, int(samples[client["client"]]))
            accountants[client["client"]].history.append((1.5, rate, steps))
        worst = max(accountant.get_epsilon(1e-3) for accountant in accountants.values())
        assert outcome.round["epsilon"] == pytest.approx(worst, rel=1e-9)
        assert outcome.round["client_epsilon"] == pytest.approx(of_clients.get_epsilon(1e-3), rel=1e-9)


def test_without_opacus_the_extra_is_named(small_config, monkeypatch):
    config = small_config(*TINY, "method.name=eden", "privacy.client_clip=1", "privacy.client_noise=1")
    executor = RecordingExecutor(config)
    monkeypatch.setitem(sys.modules, "opacus.accountants", None)
    with pytest.raises(fedsim.ConfigError, match=r"allowed: none without Opacus.*deltamask\[privacy\]"):
        Federation(config, executor)


@pytest.mark.parametrize(("head", "warned"), [("ridge", True), ("joint", False), ("random", False)])
def test_a_head_that_is_fitted_without_noise_is_warned_of(head, warned, small_config):
    config = small_config(*TINY, "method.name=eden", f"head.name={head}", "privacy={clip: 1, noise: 1}")
    warnings = Federation(config, RecordingExecutor(config)).warnings
    assert (warnings is not None and "round 0 fits head.name=ridge without noise" in warnings) == warned


BAD = {
    "privacy.noise=1": r"privacy.noise: found 1.0, allowed: 0, as privacy.clip is not given",
    "privacy.client_noise=1": r"privacy.client_noise: found 1.0, allowed: 0, as privacy.client_clip is not given",
    "privacy.clip=0": r"privacy.clip: found 0, allowed: greater than 0",
    "privacy.delta=1e-3 privacy.clip=1": r"privacy.delta: found 0.001, allowed: none",
    "privacy.clip=1 method.name=ridge": r"privacy.clip: found 1.0 with ridge, allowed: null, or a method of: deltam",
    "privacy.clip=1 method.name=fedkseed": r"privacy.clip: found 1.0 with fedkseed",
    "privacy.clip=1 method.name=linear-probe": r"privacy.clip: found 1.0 with linear-probe",
    "privacy.clip=1 method.name=tests.unit.fedsim.engine.faulty:Faulty": r"privacy.clip: found 1.0 with tests",
    "privacy.clip=1 method.name=deltamask-plus": r"train.logit_adjustment: found 0.5, allowed: null",
    "privacy.clip=1 method.name=fedavg train.together=2": r"train.together: found 2, allowed: 1",
    "privacy.clip=1 method.name=fedavg train.compile=true": r"train.compile: found True, allowed: false",
    "privacy.client_clip=5 method.name=fedpm": r"privacy.client_clip: found 5.0 with fedpm, allowed: null, or",
    "privacy.client_clip=5 method.name=fedex-lora": r"privacy.client_clip: found 5.0 with fedex-lora",
    "privacy.client_clip=5 method.name=fedavg": r"method.weighting: found samples, allowed: uniform",
}


@pytest.mark.parametrize("keys", BAD)
def test_bad_input(keys, small_config):
    with pytest.raises(fedsim.ConfigError, match=BAD[keys]):
        small_config(*keys.split())


def test_a_mask_has_one_flip_at_least(small_config):
    config = small_config(*TINY, "method.name=deltamask", "privacy.client_clip=0.5")
    with pytest.raises(fedsim.ConfigError, match=r"privacy.client_clip: found 0.5, allowed: at least 1"):
        Federation(config, RecordingExecutor(config))


def test_runs_without_it_are_named_as_before(small_config):
    config, default = small_config(), small_config("privacy.clip=null", "privacy.noise=0")
    assert "privacy" not in config.result_keys()
    assert config.run_id == default.run_id != small_config("privacy.clip=1").run_id
