"""Sweeps through Ray Tune: retries, failures, early stopping, workers in placement groups, object stores."""

import pytest

import fedsim
import results
from fedsim.engine import SerialExecutor, Simulation

pytestmark = pytest.mark.usefixtures("ray_cluster")

BASE = {
    "rounds": 2,
    "data": {"train_samples": 64, "test_samples": 40},
    "partition": {"clients": 2},
    "model": {"masked_blocks": 1},
    "cluster": {"executor": "serial"},
}
SAME = ["run_id", "round", "accuracy", "loss", "uplink_bytes", "downlink_bytes", "flips", "state_digest"]


class Recorder(fedsim.Callback):
    def __init__(self):
        self.events = []

    def start(self, run):
        self.events.append(("started", run.config.run_id, run.values, run.sweep.total))

    def round(self, run, row):
        self.events.append(("round", run.config.run_id, row["round"]))

    def end(self, run, row):
        self.events.append(("reused" if run.reused else row["status"], run.config.run_id))

    def of(self, kind):
        return [event for event in self.events if event[0] == kind]


def rows(path):
    return results.load(path).rounds.sort_values(["run_id", "round"], ignore_index=True)[SAME]


def test_a_sweep_gives_what_single_runs_give_and_reuses_them(tmp_path):
    """The trials of one sweep have workers of their own; the single runs compute in this process."""
    space = {"seed": {"grid": [0, 1]}}
    base = {**BASE, "output": f"{tmp_path}/sweep", "cluster": {"workers": 1}}
    watcher = Recorder()
    result = fedsim.sweep({"base": base, "space": space}, callbacks=[watcher])
    assert (len(result.run_ids), result.failed, result.reused) == (2, 0, 0)
    assert [event[2:] for event in watcher.of("started")] == [({"seed": 0}, 2), ({"seed": 1}, 2)]
    assert len(watcher.of("started")) == len(watcher.of("finished")) == 2
    assert len(watcher.of("round")) == 6
    for seed in (0, 1):
        fedsim.run({**BASE, "seed": seed, "output": f"{tmp_path}/single"})
    assert rows(tmp_path / "sweep").equals(rows(tmp_path / "single"))
    again = Recorder()
    assert fedsim.sweep({"base": base, "space": space}, callbacks=[again]).reused == 2
    assert again.of("started") == []
    assert sorted(result.load().runs["run_id"]) == sorted(result.run_ids)


def test_failed_runs_are_retried_then_recorded_and_the_sweep_goes_on(tmp_path):
    base = {**BASE, "output": f"{tmp_path}/runs"}
    space = {"method.name": {"grid": ["linear-probe", "tests.ray.failing:FailsOnce", "tests.ray.failing:Fails"]}}
    result = fedsim.sweep({"base": base, "space": space, "retries": 1})
    assert (len(result.run_ids), result.failed) == (3, 1)
    runs = results.load(tmp_path / "runs").runs.set_index("method")
    assert runs["status"].to_dict() == {
        "linear-probe": "finished",
        "tests.ray.failing:FailsOnce": "finished",
        "tests.ray.failing:Fails": "failed",
    }
    assert runs.loc["tests.ray.failing:Fails", "error"] == "ZeroDivisionError: always"


def test_runs_that_do_not_keep_up_are_stopped_and_not_run_again(tmp_path):
    sweep = {
        "base": {**BASE, "rounds": 6, "output": f"{tmp_path}/runs"},
        "space": {"method.kappa": {"grid": [0.1, 0.5, 0.8, 1.0]}},  # more bytes from run to run
        "early_stopping": {"column": "uplink_bytes", "mode": "min", "grace_rounds": 1, "reduction_factor": 2},
        "concurrent": 1,
    }
    result = fedsim.sweep(sweep)
    runs = results.load(tmp_path / "runs").runs
    assert sorted(runs["status"]) == ["finished", "stopped", "stopped", "stopped"]
    assert (result.stopped, result.failed) == (3, 0)
    assert fedsim.sweep(sweep).reused == 4


def test_results_on_an_object_store_are_those_of_a_local_disk(tmp_path, object_store):
    # The trials' processes were started without the store's variables: the runs compute in this process.
    remote = f"{object_store}/sweep"
    for output in (remote, f"{tmp_path}/runs"):
        for seed in (0, 1):
            fedsim.run({**BASE, "seed": seed, "output": output})
    assert rows(remote).equals(rows(tmp_path / "runs"))
    stored, local = results.load(remote), results.load(tmp_path / "runs")
    columns = ["run_id", "client", "payload_bytes", "delta_size"]
    assert stored.clients[columns].equals(local.clients[columns])
    sweep = {"base": {**BASE, "output": remote}, "space": {"seed": {"grid": [0, 1]}}}
    assert fedsim.sweep(sweep).reused == 2


def test_a_run_that_cannot_begin_fails_at_once_with_its_error(tmp_path):
    sweep = {"base": {**BASE, "output": str(tmp_path), "data": {"name": "image-folder", "path": f"{tmp_path}/nowhere"}}}
    result = fedsim.sweep({**sweep, "space": {"seed": {"grid": [0]}}, "retries": 5})
    [run] = result.load().runs.to_dict("records")
    assert run["status"] == "failed"
    assert run["error"].startswith(f"DataError: data.path: looked for a folder at {tmp_path}/nowhere, found none")


def test_a_run_that_another_process_writes_is_left_alone(tmp_path):
    base = {**BASE, "output": str(tmp_path)}
    config = fedsim.load_config(base)
    other = results.RunStore(str(tmp_path), config.run_id)
    other.lock()
    other.write_run({"run_id": config.run_id, "status": "running"})
    result = fedsim.sweep({"base": base, "space": {"seed": {"grid": [0]}}, "retries": 0})
    assert result.failed == 1
    assert other.read_run()["status"] == "running"
    other.unlock()


def test_early_stopping_takes_a_run_that_was_killed_at_its_very_end(tmp_path):
    base = {**BASE, "output": str(tmp_path), "data": {**BASE["data"], "validation": 0.2}}
    config = fedsim.load_config(base)
    simulation = Simulation(config, SerialExecutor(config), str(tmp_path))
    while simulation.step():
        pass
    simulation.finish("interrupted")
    result = fedsim.sweep({"base": base, "space": {"seed": {"grid": [0]}}, "early_stopping": {"grace_rounds": 1}})
    assert (result.failed, result.load().runs["status"].tolist()) == (0, ["finished"])
