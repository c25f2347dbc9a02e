"""Rounds that do not wait, on the simulated clock."""

import numpy as np
import pandas as pd
import pytest

import fedsim
from fedsim.engine._world import staleness_weight
from fedsim.testing import run_rounds
from tests.callbacks import Told

SAME = ["state_digest", "simulated_clock", "downlink_bytes", "uplink_bytes", "lost_clients", "participants"]
PARTS = ["simulated_download_seconds", "simulated_compute_seconds", "simulated_upload_seconds"]


@pytest.fixture
def config(small_config, tmp_path):
    gflops = [0.1, 1.0, 1.0, 1.0, 1.1, 1.2, 1.3, 1.4]  # the first is ten times as slow
    homes = pd.DataFrame({"uplink_mbps": 1.0, "downlink_mbps": 1.0, "latency_ms": 10.0, "gflops": gflops})
    homes.to_csv(tmp_path / "homes.csv", index=False)
    size = [
        "partition.clients=8",
        "data.train_samples=200",
        "data.test_samples=50",
        f"world.table={tmp_path}/homes.csv",
    ]
    return lambda *keys: small_config("rounds=6", *size, *keys)


@pytest.mark.parametrize("method", ["deltamask", "deltamask-plus", "fedavg", "fedpm", "fedkseed"])
def test_the_slow_arrive_late_count_less_and_hold_up_nobody(config, method):
    short = ["method.steps=3", "method.candidates=16", "method.batch_size=16"] if method == "fedkseed" else []
    waiting = run_rounds(config(f"method.name={method}", *short))[2]
    rounds = run_rounds(config(f"method.name={method}", *short, "world.buffer=3"))[2]
    assert rounds[6].round["simulated_clock"] - rounds[0].round["simulated_clock"] < 0.7 * (
        waiting[6].round["simulated_clock"] - waiting[0].round["simulated_clock"]
    )
    starts = {}
    for outcome in rounds[1:]:
        index, now = outcome.round["round"], outcome.round["simulated_clock"]
        assert outcome.round["participants"] == 3
        assert outcome.round["staleness"] == np.mean([row["staleness"] for row in outcome.clients])
        ends = []
        for row in outcome.clients:
            start = index - row["staleness"]
            began = rounds[start - 1].round["simulated_clock"]
            ends.append(began + sum(row[part] for part in PARTS))
            assert (row["client"], start) not in starts
            starts[row["client"], start] = index
        # The round ends with its last report, and all of them came within it.
        assert now == pytest.approx(max(ends))
        assert min(ends) > rounds[index - 1].round["simulated_clock"] - 1e-9
    stale = [row["staleness"] for outcome in rounds for row in outcome.clients]
    assert max(stale) >= 1
    assert min(stale) == 0


def test_weights_of_late_clients():
    assert [staleness_weight(1, rounds) for rounds in (0, 1, 3, 8, 99)] == [8, 6, 4, 3, 1]
    assert staleness_weight(300, 3) == 1200


def test_a_buffer_of_the_whole_cohort_is_a_round_that_waits(config):
    waiting = run_rounds(config("method.name=fedavg", "method.weighting=uniform", "rounds=3"))[2]
    buffered = run_rounds(config("method.name=fedavg", "method.weighting=uniform", "rounds=3", "world.buffer=8"))[2]
    for one, other in zip(waiting, buffered, strict=True):
        assert one.round["simulated_clock"] == pytest.approx(other.round["simulated_clock"])
        assert one.round["accuracy"] == other.round["accuracy"]
        assert {row["staleness"] for row in other.clients} == {0}


@pytest.mark.parametrize("method", ["deltamask", "fedavg"])
def test_clients_on_their_way_survive_an_interrupt(config, tmp_path, method):
    def stop(row):
        if row["round"] == 3:
            raise KeyboardInterrupt

    keys = [f"method.name={method}", "world.buffer=3", "world.dropout=0.2", "evaluate.clients=0.3"]
    calm = fedsim.run(config(*keys, f"output={tmp_path}/calm")).load()
    with pytest.raises(KeyboardInterrupt):
        fedsim.run(config(*keys, f"output={tmp_path}/other"), callbacks=[Told(stop)])
    other = fedsim.run(config(*keys, f"output={tmp_path}/other")).load()
    for name in SAME:
        assert other.rounds[name].tolist() == calm.rounds[name].tolist()
    same = ["round", "client", "staleness", "payload_bytes", "samples"]
    assert other.clients[same].equals(calm.clients[same])
    exact = [*PARTS, "held_out_samples", "client_accuracy", "personal_loss"]
    assert np.array_equal(other.clients[exact], calm.clients[exact], equal_nan=True)
    assert other.clients["personal_loss"].notna().any()
