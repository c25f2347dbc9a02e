"""What the server keeps of its clients: which version each has, and what those that keep something had kept."""

import pytest

import fedsim
from fedsim.engine import SerialExecutor, Simulation
from fedsim.testing import run_rounds
from tests.callbacks import Told

SPARSE = ["method.name=fedavg", "method.compressor.name=top-k", "method.error_feedback=true"]


def test_who_missed_rounds_gets_all_updates_since_or_the_whole_state(small_config):
    config = small_config("method.name=deltamask-plus", "rounds=6", "partition.clients=6", "participation=0.5")
    executor, federation, outcomes = run_rounds(config)
    steps, last = federation.downlink.steps, {}
    assert steps[0] == len(executor.broadcasts[1].full)
    assert steps[1:6] == [len(executor.broadcasts[index].delta) for index in range(2, 7)]
    for index, outcome in enumerate(outcomes[1:], start=1):
        for row in outcome.clients:
            missed = sum(steps[last.get(row["client"], 0) : index])
            assert row["downlink_bytes"] == min(missed, len(executor.broadcasts[index].full))
            last[row["client"]] = index
    assert len({row["downlink_bytes"] for outcome in outcomes[3:] for row in outcome.clients}) > 3


def test_what_clients_keep_survives_a_resume(small_config):
    config = small_config(*SPARSE, "partition.clients=2")

    def stop(row):
        if row["round"] == 1:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fedsim.run(config, callbacks=[Told(stop)])
    resumed = fedsim.run(config).load().rounds
    assert resumed["state_digest"].tolist() == [outcome.round["state_digest"] for outcome in run_rounds(config)[2]]


def test_only_what_a_resume_may_need_is_kept_and_at_the_end_nothing(small_config, tmp_path):
    config = small_config(*SPARSE, "partition.clients=2", "rounds=4")
    executor = SerialExecutor(config)
    simulation = Simulation(config, executor, str(tmp_path))
    found = []
    for _ in range(4):
        simulation.step()
        simulation._records.written()
        found.append(sorted(path.name for path in (tmp_path / config.run_id / "kept").glob("*")))
    last_two = [[], [1], [1, 2], [2, 3]]  # as there are two checkpoints
    assert found == [[f"{client}-{index}.bin" for client in (0, 1) for index in rounds] for rounds in last_two]
    state = simulation._federation.state()
    assert sum(array.nbytes for array in state.values()) < 2.2 * 4 * simulation._federation.dimension
    (tmp_path / config.run_id / "kept" / "1-3.bin").write_bytes(b"half")
    with pytest.raises(fedsim.CheckpointError, match=r"1-3\.bin: missing or damaged"):
        simulation.step()
    simulation.finish("failed")
    mended = fedsim.run(config)
    assert not (tmp_path / config.run_id / "kept").exists()
    assert "1-3.bin: missing or damaged" in mended.row["warnings"]
    assert mended.row["final_accuracy"] == run_rounds(config)[2][-1].round["accuracy"]
