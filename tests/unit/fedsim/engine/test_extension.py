"""A finished run goes on for more rounds, and is then what it would have been with these from the start."""

import pytest

import fedsim
from fedsim.engine import SerialExecutor, Simulation
from tests.callbacks import Told

SMALL = ("partition.clients=3", "data.train_samples=100", "data.test_samples=60", "participation=0.7")
SAME = {
    "rounds": ["round", "accuracy", "loss", "uplink_bytes", "downlink_bytes", "state_digest"],
    "clients": ["round", "client", "payload_bytes", "downlink_bytes", "train_loss"],
    "classes": ["class", "class_name", "samples", "correct", "accuracy"],
}
METHODS = {
    "masks": ["method.name=deltamask-plus"],
    "kept by clients": ["method.name=fedavg", "method.compressor.name=top-k", "method.error_feedback=true"],
}


def run(config):
    """A run, and the rounds that it computed itself."""
    computed = []
    result = fedsim.run(config, callbacks=[Told(lambda row: computed.append(row["round"]))])
    return result, computed


@pytest.mark.parametrize("method", METHODS)
def test_more_rounds_begin_after_those_of_a_run_that_kept_its_last_state(small_config, tmp_path, method):
    keys = [*SMALL, *METHODS[method]]
    first, _ = run(small_config(*keys, "rounds=3", "cluster.keep_checkpoint=true"))
    longer = small_config(*keys, "rounds=5", "cluster.keep_checkpoint=true")
    extended, computed = run(longer)
    assert computed == [4, 5]
    whole = run(small_config(*keys, "rounds=5", f"output={tmp_path}/whole"))[0]
    for table, columns in SAME.items():
        assert getattr(extended.load(), table)[columns].equals(getattr(whole.load(), table)[columns])
    assert set(extended.load().clients["run_id"]) == {longer.run_id}
    assert extended.row["final_accuracy"] == whole.row["final_accuracy"]
    assert extended.row["warnings"] == f"rounds before 4 are those of {first.row['run_id']}"
    assert run(small_config(*keys, "rounds=6"))[1] == [6]
    assert len(first.load().rounds) == 4


@pytest.mark.parametrize(
    ("first", "longer"),
    [
        ([], []),  # it kept no state
        (["cluster.keep_checkpoint=true"], ["seed=1"]),
        (
            ["cluster.keep_checkpoint=true", "method.kappa_schedule=cosine"],
            ["method.kappa_schedule=cosine"],
        ),
        (["cluster.keep_checkpoint=true", "evaluate.every=2"], ["evaluate.every=2"]),
        (["cluster.keep_checkpoint=true", "method.name=decomfl"], ["method.name=decomfl"]),  # its state has its rounds
    ],
)
def test_others_begin_at_the_start(small_config, first, longer):
    run(small_config(*SMALL, "rounds=1", *first))
    assert run(small_config(*SMALL, "rounds=2", *longer))[1] == [0, 1, 2]


def test_a_damaged_run_is_not_gone_on_with(small_config, tmp_path):
    config = small_config(*SMALL, "rounds=1", "cluster.keep_checkpoint=true")
    run(config)
    [rows] = (tmp_path / config.run_id / "rounds").iterdir()
    rows.write_bytes(rows.read_bytes()[:-20])
    assert run(small_config(*SMALL, "rounds=2"))[1] == [0, 1, 2]


def test_a_run_that_has_begun_goes_on_by_itself(small_config, tmp_path):
    run(small_config(*SMALL, "rounds=1", "cluster.keep_checkpoint=true"))
    config = small_config(*SMALL, "rounds=3")
    simulation = Simulation(config, SerialExecutor(config), str(tmp_path))
    assert simulation.step()["round"] == 2
    simulation._store.unlock()
    assert run(config)[1] == [3]
