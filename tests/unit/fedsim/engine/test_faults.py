"""Clients that fail: the run ends and says at which, or goes on without them."""

import pytest

import fedsim
import results
from fedsim.testing import run_rounds

FAULTY = "method.name=tests.unit.fedsim.engine.faulty:Faulty"
FAULTS = {
    "raise": ("ZeroDivisionError: division by zero", "in user_code"),
    "loss": ("FloatingPointError: the loss is nan: training diverged; train.lr may be too large", ""),
    "bytes": ("PayloadError: frame checksum", ""),
}


@pytest.fixture
def config(small_config):
    return lambda *keys: small_config(FAULTY, "rounds=2", "partition.clients=3", *keys)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_ends_with_the_client_the_round_and_the_traceback(config, tmp_path, fault):
    reason, call = FAULTS[fault]
    with pytest.raises(fedsim.ClientError) as raised:
        fedsim.run(config(f"method.fault={fault}"))
    assert str(raised.value).startswith(f"client 1 of round 1 failed: {reason}")
    assert "\n" not in str(raised.value)
    run = results.load(tmp_path).runs.iloc[0]
    assert run["status"] == "failed"
    assert f"client 1 of round 1 failed: {reason}" in run["error"]
    assert call in run["error"]
    assert "_trainer.py" not in run["error"] or fault != "raise"


@pytest.mark.parametrize("fault", FAULTS)
def test_dropped_clients_have_a_row_and_the_others_count_alone(config, fault):
    faulty = run_rounds(config(f"method.fault={fault}", "on_client_error=drop"))[2]
    assert [outcome.round["participants"] for outcome in faulty] == [3, 2, 3]
    assert [outcome.round["lost_clients"] for outcome in faulty] == [0, 1, 0]
    [lost] = [row for row in faulty[1].clients if "error" in row]
    assert (lost["client"], lost["payload_bytes"]) == (1, 0)
    assert lost["error"].startswith(FAULTS[fault][0])
    assert lost["downlink_bytes"] > 0
    assert faulty[1].round["uplink_bytes"] == sum(row["payload_bytes"] for row in faulty[1].clients)
    all_fail = run_rounds(config("method.at=[0, 2]", f"method.fault={fault}", "on_client_error=drop"))[2]
    assert all_fail[1].round["state_digest"] != faulty[1].round["state_digest"]


def test_a_round_needs_some_clients(config, tmp_path):
    keys = ["method.at=[0, 1]", "on_client_error=drop", "min_clients=2"]
    with pytest.raises(fedsim.ClientError, match=r"min_clients: found 1 of the 3 clients of round 1 .* at least 2"):
        fedsim.run(config(*keys))
    assert results.load(tmp_path).rounds["round"].tolist() == [0]
    with pytest.raises(fedsim.ClientError, match="min_clients: found 0 of the 3 clients"):
        run_rounds(config("method.at=[0, 1, 2]", "on_client_error=drop"))


@pytest.mark.parametrize(("fault", "key"), [("gpu", "cluster.gpus_per_worker"), ("host", "cluster.workers")])
def test_an_end_of_memory_names_the_keys_that_lower_the_need(config, fault, key):
    with pytest.raises(fedsim.ResourceError, match=rf"{key}: .*memory ran out under client 1 of round 1 .*batch_size"):
        run_rounds(config(f"method.fault={fault}", "on_client_error=drop"))


def test_lost_clients_are_stored(config, tmp_path):
    fedsim.run(config("on_client_error=drop"))
    loaded = results.load(tmp_path)
    assert loaded.clients["error"].notna().sum() == 1
    assert loaded.runs["status"].tolist() == ["finished"]
    assert loaded.rounds["lost_clients"].tolist() == [0, 1, 0]
