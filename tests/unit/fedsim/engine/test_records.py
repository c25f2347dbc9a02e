"""What a run has stored: ``finished`` means whole; what is damaged is computed again from the last state that fits."""

import threading
import time

import numpy as np
import pytest

import fedsim
import results
from fedsim.engine import SerialExecutor, Simulation
from fedsim.engine._checkpoint import checkpoints, load_checkpoint
from tests.callbacks import Told

SAME = ["round", "accuracy", "loss", "uplink_bytes", "downlink_bytes", "state_digest"]


@pytest.fixture
def config(small_config):
    return small_config("rounds=4", "partition.clients=3", "data.train_samples=100", "data.test_samples=60")


@pytest.fixture
def calm(config, tmp_path):
    """The rounds of an undisturbed run."""
    undisturbed = fedsim.run(config.model_copy(update={"output": f"{tmp_path}/calm"}))
    return undisturbed.load().rounds[SAME]


def open_simulation(config, output):
    return Simulation(config, SerialExecutor(config), str(output))


def stop_after(config, output, rounds):
    """Some rounds of a run, whose process then dies."""
    simulation = open_simulation(config, output)
    for _ in range(rounds):
        simulation.step()
    simulation._records.written()
    simulation._store.unlock()
    return output / config.run_id


def test_a_run_that_lost_a_file_does_not_finish_and_is_mended(config, tmp_path, calm):
    simulation = open_simulation(config, tmp_path)
    for _ in range(5):
        simulation.step()
    [lost] = (tmp_path / config.run_id / "rounds").glob("000001-*")
    lost.unlink()
    with pytest.raises(results.DamagedError, match=r"rounds 1 are missing or changed.*the same command again"):
        simulation.finish("finished")
    simulation.finish("failed", "as the runner does")
    assert results.load(tmp_path / config.run_id).runs["status"].tolist() == ["failed"]
    mended = fedsim.run(config)
    assert mended.load().rounds[SAME].equals(calm)
    assert "rounds 1 are missing or changed" in mended.row["warnings"]
    assert "the run starts again" in mended.row["warnings"]  # both checkpoints are later


@pytest.mark.parametrize("table", ["rounds", "clients"])
def test_a_flipped_byte_is_found_and_computed_again(config, tmp_path, calm, table):
    folder = stop_after(config, tmp_path, 4)
    [file] = (folder / table).glob("000003-*")
    data = bytearray(file.read_bytes())
    for position in np.linspace(0, len(data) - 1, 40).astype(int):
        flipped = data.copy()
        flipped[position] ^= 4
        file.write_bytes(flipped)
        with pytest.raises(results.DamagedError, match="000003-000003"):
            results.load(folder)
    mended = fedsim.run(config)
    assert mended.load().rounds[SAME].equals(calm)
    assert "goes on after round 2" in mended.row["warnings"]


def test_a_damaged_checkpoint_costs_a_round_and_two_cost_the_run(config, tmp_path, calm):
    folder = stop_after(config, tmp_path, 4)
    names = sorted(path.name.split(".")[0] for path in folder.glob("checkpoint-*"))
    assert names == ["checkpoint-000003", "checkpoint-000004"]
    for damaged, note in ((1, "goes on after round 2"), (2, "starts again")):
        newest = sorted(folder.glob("checkpoint-*"))[-damaged:]
        for path in newest:
            path.write_bytes(path.read_bytes()[:-50])
        simulation = open_simulation(config, tmp_path)
        assert any(note in warning for warning in simulation._records.warnings)
        assert any(newest[-1].name in warning for warning in simulation._records.warnings)
        simulation._store.unlock()
    assert fedsim.run(config).load().rounds[SAME].equals(calm)


@pytest.mark.parametrize(
    ("keys", "expected"), [({"checkpoint_rounds": 2}, ["000002", "000004"]), ({"checkpoint_seconds": 3600}, [])]
)
def test_checkpoints_are_written_when_due_and_removed_at_the_end(config, tmp_path, keys, expected):
    config = config.model_copy(update={"cluster": config.cluster.model_copy(update=keys)})
    simulation = open_simulation(config, tmp_path)
    seen = set()
    for _ in range(5):
        simulation.step()
        seen |= {path.name for path in (tmp_path / config.run_id).glob("checkpoint-*")}
    assert sorted(name.split(".")[0].removeprefix("checkpoint-") for name in seen) == expected
    simulation.finish("finished")
    assert sorted(path.name for path in (tmp_path / config.run_id).iterdir() if not path.name.startswith(".")) == [
        "classes",
        "clients",
        "owner.json",
        "rounds",
        "run.parquet",
    ]


def test_a_run_that_is_stopped_in_order_loses_no_round(config, tmp_path):
    config = config.model_copy(update={"cluster": config.cluster.model_copy(update={"checkpoint_seconds": 3600})})
    simulation = open_simulation(config, tmp_path)
    simulation.step()
    simulation.step()
    simulation.finish("interrupted")
    assert open_simulation(config, tmp_path).step()["round"] == 2


def test_what_dead_processes_had_not_finished_writing_is_swept(config, tmp_path):
    folder = stop_after(config, tmp_path, 2)
    (folder / ".checkpoint-000002.deadbeef.bin.deadbeef.tmp").write_bytes(b"half")
    fedsim.run(config)
    assert not list(folder.glob(".*.tmp"))


def test_the_older_of_two_writers_stops_and_deletes_nothing(config, object_store, calm):
    config = config.model_copy(update={"output": f"{object_store}/runs"})
    older = open_simulation(config, config.output)
    older.step()
    older.step()
    older._records.written()
    newer = open_simulation(config, config.output)
    assert newer.step()["round"] == 2
    for act in (older.step, lambda: older.finish("finished"), lambda: older.finish("failed", "late")):
        with pytest.raises(results.OwnershipError, match=r"process \d+ on .* took it over at .*; this process writes"):
            act()
    older._records._digests.append(0)
    older._records.checkpoint(older._federation.state())
    with pytest.raises(results.OwnershipError):
        older._records.written()
    while newer.step():
        pass
    assert newer.finish("finished")["status"] == "finished"
    assert results.load(newer._store.location).rounds[SAME].equals(calm)


def test_a_race_of_two_writers_never_ends_in_a_run_that_is_not_whole(config, object_store, calm):
    """The full race, fifty times, is a target of its own; this is a short one."""
    for attempt in range(2):
        race(config, f"{object_store}/race-{attempt}", calm, np.random.default_rng(attempt))


def test_a_location_with_options_is_resumed_where_it_is(config, tmp_path):
    config = config.model_copy(update={"output": f"file://{tmp_path}/runs?x=1"})
    with pytest.raises(KeyboardInterrupt):
        fedsim.run(config, callbacks=[Told(_interrupt)])
    path = results.RunStore(config.output, config.run_id).location
    assert path.endswith("?x=1")
    assert fedsim.resume(path).row["status"] == "finished"
    assert results.split_location(path) == (config.output, config.run_id)


def test_a_damaged_row_of_a_run_is_written_again(config, tmp_path, calm):
    folder = stop_after(config, tmp_path, 3)
    (folder / "run.parquet").write_bytes(b"")
    with pytest.raises(results.DamagedError, match=r"run\.parquet: damaged"):
        fedsim.resume(folder)
    with pytest.warns(UserWarning, match=r"run\.parquet: damaged"):
        mended = fedsim.run(config)
    assert mended.load().rounds[SAME].equals(calm)


def _interrupt(row):
    raise KeyboardInterrupt


def race(config, output, calm, rng):
    """Two processes' worth of a run on one object store, with random delays."""
    config = config.model_copy(update={"output": output})
    errors = []

    def write(delays):
        try:
            time.sleep(delays[0])
            simulation = open_simulation(config, output)
            for delay in delays[1:]:
                time.sleep(delay)
                simulation.step()
            simulation.finish("finished")
        except (results.OwnershipError, results.DamagedError, FileNotFoundError) as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(rng.uniform(0, 0.3, 6),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loaded = results.load(output)
    if loaded.runs["status"].tolist() == ["finished"]:
        assert loaded.rounds[SAME].equals(calm)
    again = fedsim.run(config)
    assert again.row["status"] == "finished"
    assert again.load().rounds[SAME].equals(calm)


def test_other_code_is_seen(config, tmp_path, monkeypatch):
    folder = stop_after(config, tmp_path, 3)
    monkeypatch.setattr("fedsim.engine._simulation.git_commit", lambda: "another")
    mixed = fedsim.run(config)
    assert "rounds before 3 come from another git_commit" in mixed.row["warnings"]
    assert fedsim.run(config).reused
    assert not fedsim.run(config, same_version=True).reused  # it is of the commit "another", and this code is not
    monkeypatch.undo()
    assert not fedsim.run(config, same_version=True).reused
    assert fedsim.run(config, same_version=True).reused
    assert folder.exists()


def test_a_checkpoint_is_of_its_round_whatever_comes_after(config, tmp_path):
    config = config.model_copy(update={"cluster": config.cluster.model_copy(update={"checkpoint_rounds": 1})})
    simulation = open_simulation(config, tmp_path)
    records, state = simulation._records, simulation._federation.state()
    records._digests.append(0)
    before = {name: array.copy() for name, array in state.items()}
    records.checkpoint(state)
    for array in state.values():
        array += 1
    records.written()
    [name] = checkpoints(simulation._store)
    found = load_checkpoint(simulation._store, name, before, "varying.")
    assert all(np.array_equal(found[name], array) for name, array in before.items())


def test_a_run_of_a_sweep_stays_so_when_it_is_resumed_alone(config, tmp_path):
    of_sweep = {"sweep": "tune", "trial": '{"train.lr": 0.1}', "search": "{}"}
    simulation = Simulation(config, SerialExecutor(config), str(tmp_path), of_sweep=of_sweep)
    simulation.step()
    simulation.finish("interrupted")
    fedsim.run(config.model_copy(update={"output": str(tmp_path)}))
    columns = list(of_sweep)
    assert results.load(tmp_path, where={"sweep": "tune"}).runs[columns].to_dict("records") == [of_sweep]
    alone = fedsim.run(config.model_copy(update={"output": f"{tmp_path}/alone"}))
    assert [alone.row[name] for name in columns if name in alone.row] in ([], [None] * 3)
    assert results.load(f"{tmp_path}/alone").runs[columns].isna().all(axis=None)
