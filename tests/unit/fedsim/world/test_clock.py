"""Simulated time, by hand."""

import numpy as np
import pandas as pd
import pytest

import fedsim
import results
from fedsim.engine import make_model
from fedsim.settings import WorldSettings
from fedsim.testing import run_rounds
from fedsim.world import PROFILES, ClientWorld, Flops, Times
from results import tables
from tests.callbacks import Told

HOMES = pd.DataFrame(
    {
        "uplink_mbps": [1.0, 10.0, 0.5, 1.0],
        "downlink_mbps": [2.0, 10.0, 0.5, 1.0],
        "latency_ms": [100.0, 0.0, 1000.0, 0.0],
        "gflops": [1.0, 2.0, 0.5, 1.0],
    }
)
SIMULATED = ["simulated_download_seconds", "simulated_compute_seconds", "simulated_upload_seconds"]


@pytest.fixture
def table(written):
    return written(HOMES)


def test_three_clients_by_hand(table):
    world = ClientWorld(WorldSettings(table=table), 3, seed=0)
    found = [world.home(client).times(1_000_000, 250_000, flops=3e9) for client in range(3)]
    # 8 Mbit down and 2 Mbit up, a round trip for each, and three billion operations.
    assert found[0] == Times(pytest.approx(0.1 + 4), pytest.approx(3), pytest.approx(0.1 + 2))
    assert found[1] == Times(pytest.approx(0.8), pytest.approx(1.5), pytest.approx(0.2))
    assert found[2] == Times(pytest.approx(1 + 16), pytest.approx(6), pytest.approx(1 + 4))
    assert [one.total for one in found] == pytest.approx([9.2, 2.5, 28])
    assert world.home(0).times(0, 0, flops=0, measured=7.0) == Times(0.0, 7.0, 0.0)  # nothing sent takes no time


def test_every_profile_is_faster_than_the_next_for_a_model_in_floats():
    seconds = []
    for profile in ("fiber", "lte", "3g", "iot"):
        home = ClientWorld(WorldSettings(profile=profile), 10, seed=0).home(5)
        seconds.append(home.times(4_000_000, 1_000_000, flops=1e11).total)
    assert seconds == sorted(seconds)


def test_mixed_draws_all_profiles_by_seed():
    mixed = WorldSettings(profile="mixed")
    homes = [[ClientWorld(mixed, 10**6, seed).home(client) for client in range(400)] for seed in (0, 0, 1)]
    assert homes[0] == homes[1] != homes[2]
    for home in PROFILES.values():
        assert 60 < homes[0].count(home) < 140


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gflops": [1.0, 0.0, 1.0, 1.0]}, "a value of gflops that is not a finite one above 0"),
        ({"latency_ms": [1.0, -1.0, 1.0, 1.0]}, "a value of latency_ms"),
        (None, "allowed: also gflops"),
    ],
)
def test_a_table_that_is_none_is_refused_by_name(tmp_path, change, message):
    homes = HOMES.drop(columns="gflops") if change is None else HOMES.assign(**change)
    homes.to_parquet(tmp_path / "homes.parquet")
    with pytest.raises(fedsim.ConfigError, match=rf"world.table: found .*{message}"):
        ClientWorld(WorldSettings(table=f"{tmp_path}/homes.parquet"), 4, seed=0)


def test_a_table_needs_a_row_for_each_client(table):
    with pytest.raises(fedsim.ConfigError, match=r"world.table: found 4 rows, allowed: one for each of 5 clients"):
        ClientWorld(WorldSettings(table=table), 5, seed=0)
    with pytest.raises(fedsim.ConfigError, match=r"world.table: 'none.csv' cannot be read"):
        ClientWorld(WorldSettings(table="none.csv"), 5, seed=0)


def test_operations_are_those_of_the_network(small_config):
    flops = Flops(make_model(small_config("model.masked_blocks=8"), 10))
    # 16 tokens through 8 blocks of 12 * 128^2 weights, and attention: 2 * 2 * 16^2 * 128 each.
    blocks = 8 * (2 * 16 * 12 * 128**2 + 4 * 16**2 * 128) + 2 * 128 * 10
    assert flops.blocks == blocks
    convolutions = 2 * 9 * (16 * 16 * 3 * 32 + 8 * 8 * 32 * 64 + 4 * 4 * 64 * 128)
    assert flops.prefix == convolutions
    assert flops.client(7, 21.0, prefix_passes=3) == 21 * blocks + 3 * 7 * convolutions


@pytest.fixture
def config(small_config):
    return lambda *keys: small_config("rounds=3", "participation=0.5", "data.train_samples=200", *keys)


def test_the_clock_is_of_real_bytes_and_changes_no_result(config):
    plain = run_rounds(config())[2]
    timed = run_rounds(config("world.profile=3g"))[2]
    home, total = PROFILES["3g"], 0.0
    for expected, found in zip(plain, timed, strict=True):
        assert found.round["state_digest"] == expected.round["state_digest"]
        for row in found.clients:
            assert row["simulated_download_seconds"] == pytest.approx(0.3 + 8 * row["downlink_bytes"] / 1.6e6)
            assert row["simulated_upload_seconds"] == pytest.approx(0.3 + 8 * row["payload_bytes"] / 0.768e6)
        slowest = max(sum(row[name] for name in SIMULATED) for row in found.clients)
        total += slowest
        assert found.round["simulated_seconds"] == pytest.approx(slowest)
        assert found.round["simulated_clock"] == pytest.approx(total)
        assert not set(SIMULATED) & set(expected.clients[0])
    flops = Flops(make_model(config(), 10))
    seen = {row["client"] for outcome in timed[:2] for row in outcome.clients}
    for row in timed[2].clients:
        operations = flops.client(row["samples"], 3 * row["samples"], row["client"] not in seen)
        assert row["simulated_compute_seconds"] == pytest.approx(operations / (1e9 * home.gflops))


def test_the_clock_goes_on_after_an_interrupt(config, tmp_path):
    def stop(row):
        if row["round"] == 2:
            raise KeyboardInterrupt

    keys = ["world.profile=mixed", "rounds=4"]
    calm = fedsim.run(config(*keys, f"output={tmp_path}/calm")).load()
    with pytest.raises(KeyboardInterrupt):
        fedsim.run(config(*keys, f"output={tmp_path}/other"), callbacks=[Told(stop)])
    other = fedsim.run(config(*keys, f"output={tmp_path}/other")).load()
    for name in ("simulated_seconds", "simulated_clock"):
        assert np.array_equal(other.rounds[name], calm.rounds[name])
    target = tables.seconds_to_target(calm, 0.1)
    first = calm.rounds[calm.rounds["accuracy"] >= 0.1].iloc[0]
    assert target["seconds"].tolist() == [first["simulated_clock"]]
    assert results.load(tmp_path / "calm").clients[SIMULATED].notna().all().all()


def test_runs_are_named_after_the_world_only_where_it_is_on(config):
    off, on, other = (config(*keys) for keys in ([], ["world.profile=lte"], ["world.profile=3g"]))
    assert len({off.run_id, on.run_id, other.run_id}) == 3
    assert "world" not in off.result_keys()
    for keys, message in (
        (["world.profile=lte", "world.table=x.csv"], "world.profile: found 'lte', allowed: none"),
        (["world.compute=measured"], "world.compute: found 'measured', allowed: none"),
        (["world.profile=5g"], "world.profile: found '5g', allowed: 'fiber', 'lte', '3g', 'iot' or 'mixed'"),
    ):
        with pytest.raises(fedsim.ConfigError, match=message):
            config(*keys)


def test_methods_without_steps_compute_what_they_say(config):
    rows = {}
    for method in ("ridge", "decomfl", "deltamask"):
        rows[method] = run_rounds(config(f"method.name={method}", "world.profile=lte"))[2][3].clients[0]
    flops = Flops(make_model(config(), 10))
    samples, rate = rows["ridge"]["samples"], 1e9 * PROFILES["lte"].gflops
    found = rows["ridge"]["simulated_compute_seconds"]  # with the prefix, where it is the client's first round
    assert any(
        found == pytest.approx(flops.client(samples, samples, first) / rate, rel=1e-9) for first in (False, True)
    )
    assert rows["decomfl"]["simulated_compute_seconds"] > rows["ridge"]["simulated_compute_seconds"]
