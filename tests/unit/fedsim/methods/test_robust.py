"""Aggregates and attacks: what hostile clients send, and what becomes of it."""

import numpy as np
import pytest

import deltamask as dm
import fedsim
from fedsim.engine import SerialExecutor
from fedsim.methods.robust import TrimmedVotes, robust_mean
from fedsim.settings import WorldSettings
from fedsim.testing import run_rounds
from fedsim.world import attacked, damaged, is_hostile


@pytest.mark.parametrize(("clients", "trim"), [(10, 0.2), (7, 0.3), (5, 0.1), (1, 0.4)])
def test_trimmed_means_and_medians_are_those_of_numpy(clients, trim):
    rng = np.random.default_rng(clients)
    vectors = list(rng.normal(size=(clients, 70_000)).astype(np.float32))
    ordered = np.sort(np.stack(vectors).astype(np.float64), axis=0)
    cut = int(trim * clients)
    expected = ordered[cut : clients - cut].mean(0)
    assert np.allclose(robust_mean(vectors, "trimmed-mean", trim), expected, atol=1e-6)
    assert np.array_equal(robust_mean(vectors, "median", trim), np.median(np.stack(vectors), axis=0))


@pytest.mark.parametrize("differences", [True, False])
def test_trimmed_votes_are_those_of_sorted_votes(differences):
    rng = np.random.default_rng(0)
    masks, references = rng.random((2, 9, 500)) < rng.random(500)
    votes = TrimmedVotes(0.25, differences)
    for mask_d, reference_d in zip(masks, references, strict=True):
        votes.observe(mask_d, reference_d)
    ballots = masks.astype(int) - references if differences else masks.astype(int)
    left = np.sort(ballots, axis=0)[2:-2]
    found = votes.take(np.dtype(np.int32))
    assert found.total == 5
    assert np.array_equal(found.sums_d, left.sum(0))
    with pytest.raises(ValueError, match="votes: found none"):
        votes.take(np.dtype(np.int32))


def test_attacks_on_what_was_learned():
    change_d = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    flip, noise = (WorldSettings(hostile=0.1, attack=kind, attack_scale=3) for kind in ("sign-flip", "random"))
    assert np.array_equal(attacked(change_d, flip, 3), -3 * change_d)
    noise_d = attacked(change_d, noise, 3)
    assert np.array_equal(np.sort(noise_d), np.sort(3 * change_d))
    assert noise_d.dtype == np.float32
    assert abs(np.corrcoef(noise_d, change_d)[0, 1]) < 0.2
    assert not np.array_equal(noise_d, attacked(change_d, noise, 4))


def test_damage_is_always_noticed():
    payload = dm.payload.pack(dm.payload.TENSORS, 0, b"some bytes that matter")
    for key in range(200):
        broken = damaged(payload, key)
        assert len(broken) == len(payload)
        with pytest.raises(dm.PayloadError):
            dm.payload.unpack(broken, dm.payload.TENSORS, 0)


@pytest.fixture
def config(small_config):
    size = ["partition.clients=10", "data.train_samples=300", "data.test_samples=100", "on_client_error=drop"]
    return lambda *keys: small_config("rounds=2", *size, *keys)


def test_damaged_uploads_are_dropped_from_the_round(config):
    settings = config("world.hostile=0.3", "world.attack=damaged")
    hostile = {client for client in range(10) if is_hostile(settings.world, settings.seed, client)}
    assert 0 < len(hostile) < 10
    rounds = run_rounds(settings)[2]
    for outcome in rounds:
        dropped = {row["client"] for row in outcome.clients if "error" in row}
        assert dropped == (hostile if outcome.round["round"] else set())


@pytest.mark.parametrize("method", ["deltamask", "deltamask-plus", "fedpm", "fedavg", "lora"])
def test_a_hostile_client_sends_the_opposite_of_what_it_learned(config, method):
    keys = [f"method.name={method}", *(["method.codec=range"] if method == "deltamask" else [])]
    honest, hostile = (config(*keys, *more) for more in ([], ["world.hostile=0.99"]))
    found = []
    for settings in (honest, hostile):
        executor = SerialExecutor(settings)
        federation = fedsim.engine.Federation(settings, executor)
        federation.run_round()
        server = federation.servers["method"]
        broadcast = federation.downlink.current("method", server)
        [upload] = executor.train("method", 1, [3], broadcast, {})
        payload, _ = dm.uploads.split_weight(upload.update.payload, server.params.weighted)
        decoded = server.decode(1, 3, payload)
        if isinstance(decoded, dm.Decoded):
            decoded = decoded.mask_d.astype(float) - decoded.reference_d
        found.append(np.asarray(decoded, float))
    if method in ("fedavg", "lora"):
        assert np.array_equal(found[0], -found[1])
    elif method == "fedpm":
        assert found[0].mean() < found[1].mean()  # honest clients lower theta from 0.95, hostile ones raise it
    else:
        assert np.any(found[1])
        assert not np.any(found[0] * found[1] > 0)  # no bit flips the same way


@pytest.mark.parametrize(
    ("keys", "robust"),
    [
        (["method.name=fedavg", "train.lr=1e-4"], ["method.aggregation=median"]),
        (["method.name=fedavg", "train.lr=1e-4"], ["method.aggregation=trimmed-mean", "method.trim=0.4"]),
        (["method.name=deltamask-plus", "train.lr=0.003"], ["method.trim=0.4"]),
    ],
)
def test_a_robust_aggregate_is_led_less_astray_than_a_mean(config, keys, robust):
    hostile = ["world.hostile=0.3", "world.attack_scale=10"]
    calm, plain, guarded = (run_rounds(config(*keys, *more))[2] for more in ([], hostile, [*hostile, *robust]))
    ideal, astray, found = (rounds[-1].round["loss"] for rounds in (calm, plain, guarded))
    assert found < astray
    assert abs(found - ideal) < abs(astray - ideal)


def test_settings_that_do_not_go_together(config):
    for keys, message in (
        (
            ["method.name=deltamask", "method.trim=0.1", "method.aggregation=coupled-difference"],
            "adds flips",
        ),
        (["method.name=deltamask-plus", "method.trim=0.1", "method.weighting=samples"], "allowed: 0 where weighting"),
        (
            ["method.name=fedavg", "method.aggregation=median", "privacy.client_clip=1"],
            "aggregation: found 'med",
        ),
        (
            ["method.name=deltamask", "method.trim=0.1", "privacy.client_clip=9"],
            "method.trim: found 0.1, allowed: none",
        ),
        (
            ["method.name=fedavg", "method.trim=0.1"],
            "method.trim: found 0.1, allowed: none",
        ),
    ):
        with pytest.raises(fedsim.ConfigError, match=message):
            config(*keys)
    plain = config("method.name=fedavg")
    assert "aggregation" not in plain.result_keys()["method"]
    assert plain.run_id != config("method.name=fedavg", "method.aggregation=median").run_id
