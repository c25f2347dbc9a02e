"""Rounds in which clients are lost: who counts, and what it costs."""

import numpy as np
import pandas as pd
import pytest

import deltamask as dm
import fedsim
from fedsim.engine import Federation, SerialExecutor, Upload
from fedsim.testing import run_rounds
from tests.callbacks import Told

HOMES = pd.DataFrame({"uplink_mbps": 1.0, "downlink_mbps": 1.0, "latency_ms": 0.0, "gflops": np.arange(1.0, 9.0)})
PARTS = ["simulated_download_seconds", "simulated_compute_seconds", "simulated_upload_seconds"]


@pytest.fixture
def config(small_config, tmp_path):
    HOMES.to_csv(tmp_path / "homes.csv", index=False)
    size = ["partition.clients=8", "data.train_samples=200", "data.test_samples=50"]
    return lambda *keys: small_config("rounds=3", *size, *keys)


@pytest.fixture
def timed(config, tmp_path):
    return lambda *keys: config(f"world.table={tmp_path}/homes.csv", *keys)


def reasons(outcome):
    return {row["client"]: row.get("error", "").partition(":")[0] for row in outcome.clients}


def total(row):
    return sum(row[part] for part in PARTS)


def test_whoever_drops_out_does_not_count_and_gets_the_right_downlink_later(config):
    settings = config("world.dropout=0.5", "rounds=12", "participation=0.75")
    federation = Federation(settings, SerialExecutor(settings))
    rounds, full = [federation.run_round()], [0]
    while not federation.done:
        full.append(len(federation.downlink.current("method", federation.servers["method"]).full))
        rounds.append(federation.run_round())
    steps, received, lost = federation.downlink.steps, {}, []
    for outcome in rounds:
        index, row = outcome.round["round"], outcome.round
        assert set(reasons(outcome).values()) <= {"", "dropout"}
        assert row["participants"] == sum("error" not in client for client in outcome.clients)
        assert row["lost_clients"] == len(outcome.clients) - row["participants"]
        for client in outcome.clients:
            before = client.get("error") == "dropout: before the broadcast"
            if index:
                missed = sum(steps[received.get(client["client"], 0) : index])
                assert client["downlink_bytes"] == (0 if before else min(missed, full[index]))
            else:
                assert (client["downlink_bytes"] == 0) == before
            if not before:
                received[client["client"]] = index
            if "error" in client:
                assert client["payload_bytes"] == 0
            lost.append(client.get("error"))
    share = np.mean([reason is not None for reason in lost])
    assert 0.3 < share < 0.7
    assert {"dropout: before the broadcast", "dropout: after training"} < set(lost)


@pytest.mark.parametrize("when", ["before", "after"])
def test_dropout_at_one_time_only(config, when):
    rounds = run_rounds(config("world.dropout=0.4", f"world.dropout_at={when}", "rounds=5"))[2]
    found = {row.get("error", "").partition(" ")[2].partition(" ")[0] for one in rounds for row in one.clients}
    assert found == {"", when}


@pytest.mark.parametrize("method", ["deltamask", "deltamask-plus", "fedavg", "fedpm"])
def test_the_state_after_a_round_is_that_of_those_who_arrived(config, method):
    """The same round by hand: a server that accumulates only what counted."""
    settings = config(f"method.name={method}", "world.dropout=0.4", "rounds=1")
    executor = SerialExecutor(settings)
    federation, by_hand = Federation(settings, executor), Federation(settings, executor)
    for one in (federation, by_hand):
        one.run_round()
    counted = [row["client"] for row in federation.run_round().clients if "error" not in row]
    assert 0 < len(counted) < 8
    server = by_hand.servers["method"]
    broadcast = by_hand.downlink.current("method", server)
    for upload in executor.train("method", 1, counted, broadcast, {}):
        payload, weight = dm.uploads.split_weight(upload.update.payload, server.params.weighted)
        server.accumulate(server.decode(1, upload.client, payload), weight)
    server.finish_round()
    assert server.digest() == federation.servers["method"].digest()


def test_dropout_leaves_the_estimate_unbiased(config):
    """The mean of what counts, over many rounds, is the mean over all clients."""
    settings = config("world.dropout=0.5", "partition.clients=8")
    world = Federation(settings, SerialExecutor(settings)).world
    values = np.arange(8.0)
    means = []
    for index in range(3000):
        left = [client for client in world.cohort(index, 8) if world.drops_out(index, client) is None]
        means += [values[left].mean()] if left else []
    # The mean of half of eight values has a deviation of about 0.9; here, of 3,000 means.
    assert np.mean(means) == pytest.approx(values.mean(), abs=4 * 0.95 / 3000**0.5)


def test_a_deadline_ends_the_round_and_late_uploads_come_in_vain(timed):
    calm = run_rounds(timed())[2]
    slowest = sorted(total(row) for row in calm[1].clients)
    deadline = (slowest[4] + slowest[5]) / 2
    rounds = run_rounds(timed(f"world.deadline={deadline}"))[2]
    assert not any(reasons(rounds[0]).values())  # the head's round waits for all
    assert sorted(reasons(rounds[1]).values()) == [""] * 5 + ["deadline"] * 3
    assert rounds[1].round["simulated_seconds"] == pytest.approx(deadline)
    for row in rounds[1].clients:
        assert (total(row) > deadline) == ("error" in row)
        assert row["payload_bytes"] > 0
    assert rounds[1].round["uplink_bytes"] == sum(row["payload_bytes"] for row in rounds[1].clients)


def test_no_lost_client_holds_up_a_round_beyond_its_deadline(timed):
    def reports(*keys):
        settings = timed("world.dropout=0.5", "world.dropout_at=after", *keys)
        world = Federation(settings, SerialExecutor(settings)).world
        uploads = [Upload(client, 100, dm.Update(bytes(1000)), None, 0.0, 0.0) for client in range(8)]
        return [world.report("method", 1, upload, 1000, first=True) for upload in uploads]

    calm = reports()
    lost = sorted(report.heard for report in calm if report.lost)
    assert len(lost) > 2
    deadline = (lost[0] + lost[1]) / 2
    for before, report in zip(calm, reports(f"world.deadline={deadline}"), strict=True):
        assert report.heard == min(before.heard, deadline)
        assert (report.lost or "").startswith("deadline" if before.heard > deadline else before.lost or "")


def test_the_first_of_an_over_selection_count(timed):
    settings = timed("world.over_selection=2", "participation=0.5")
    for outcome in run_rounds(settings)[2][1:]:
        assert len(outcome.clients) == 8
        order = sorted(outcome.clients, key=total)
        assert [("error" in row) for row in order] == [False] * 4 + [True] * 4
        assert outcome.round["simulated_seconds"] == pytest.approx(total(order[3]))
        assert outcome.round["participants"] == 4


def test_who_leaves_is_lost_and_time_passes_until_enough_are_there(timed, tmp_path):
    # The server looks every ten minutes; at 5,400 all are there, one of them for a hundredth of a second more.
    stays = pd.DataFrame({"client": np.arange(8), "start": 5000.0, "end": [5400.01] + [90_000.0] * 7})
    stays.to_csv(tmp_path / "stays.csv", index=False)
    rounds = run_rounds(timed(f"world.traces={tmp_path}/stays.csv", "min_clients=3", "rounds=2"))[2]
    assert [row["client"] for row in rounds[0].clients if "error" in row] == [0]
    assert reasons(rounds[0])[0] == "left"
    assert rounds[0].round["simulated_seconds"] > 5400  # nobody is there before
    for outcome in rounds[1:]:
        assert set(reasons(outcome)) == set(range(1, 8))
    pd.DataFrame({"client": [1, 2], "start": 0.0, "end": 10.0}).to_csv(tmp_path / "stays.csv", index=False)
    with pytest.raises(fedsim.ConfigError, match=r"world.traces: found 2 clients .*allowed: at least min_clients, 3"):
        run_rounds(timed(f"world.traces={tmp_path}/stays.csv", "participation=0.5", "min_clients=3"))


def test_a_round_for_which_too_few_report_is_tried_again(config):
    settings = config("world.dropout=0.6", "min_clients=4", "participation=0.75", "rounds=6")
    rounds = run_rounds(settings)[2]
    again = [outcome for outcome in rounds if "too few" in reasons(outcome).values() or len(outcome.clients) > 6]
    assert again
    assert all(outcome.round["participants"] >= 4 for outcome in rounds)


def test_a_lossy_world_goes_on_after_an_interrupt(timed, tmp_path):
    def stop(row):
        if row["round"] == 2:
            raise KeyboardInterrupt

    keys = ["world.dropout=0.3", "world.availability=0.7", "world.over_selection=1.5", "participation=0.5", "rounds=4"]
    calm = fedsim.run(timed(*keys, f"output={tmp_path}/calm")).load()
    with pytest.raises(KeyboardInterrupt):
        fedsim.run(timed(*keys, f"output={tmp_path}/other"), callbacks=[Told(stop)])
    other = fedsim.run(timed(*keys, f"output={tmp_path}/other")).load()
    for name in ("state_digest", "simulated_clock", "downlink_bytes", "lost_clients", "uplink_bytes"):
        assert other.rounds[name].tolist() == calm.rounds[name].tolist()
    assert calm.clients["error"].notna().any()


def test_keys_that_need_time_or_each_other(config):
    for keys, message in (
        (["world.deadline=3"], "world.deadline: found 3.0, allowed: none, as neither profile nor table"),
        (["world.availability=0.5"], "world.availability: found 0.5, allowed: none"),
        (["world.dropout_at=after"], "world.dropout_at: found 'after', allowed: none, as world.dropout is 0"),
        (["world.profile=lte", "world.availability=0.5", "world.traces=x.csv"], "world.availability: found 0.5"),
        (["world.profile=lte", "world.buffer=2", "world.over_selection=2"], "world.over_selection: found 2.0"),
        (["world.profile=lte", "world.buffer=20"], "world.buffer: found 20, allowed: at most the cohort, 8"),
        (
            ["world.profile=lte", "world.buffer=2", "method.name=fedex-lora"],
            "allowed: others, or a method of.*fedavg",
        ),
        (["world.hostile=0.2", "world.attack=damaged"], "world.attack: found 'damaged', allowed: others, unless on_cl"),
        (["world.hostile=0.2", "method.name=fedkseed"], "world.attack: found 'sign-flip', allowed: others, or"),
        (
            ["world.sampling=samples", "privacy.client_clip=9", "privacy.client_noise=1"],
            "privacy counts uniform cohorts",
        ),
    ):
        with pytest.raises(fedsim.ConfigError, match=message):
            config(*keys)
