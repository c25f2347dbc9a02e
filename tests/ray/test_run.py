"""Whole runs through the driver actor."""

import os
import signal

import pytest
import ray
from PIL import Image

import fedsim
import results
from fedsim import CallbackError, ResourceError, WorkerLostError
from fedsim.distributed import RemoteSimulation, _driver
from fedsim.errors import DataError
from results.log import read_log
from tests.callbacks import Told
from tests.processes import actors, wait_for_exit, wait_until

pytestmark = pytest.mark.usefixtures("ray_cluster")

SAME = ["round", "accuracy", "loss", "uplink_bytes", "downlink_bytes", "flips", "state_digest"]


@pytest.fixture
def undisturbed(small_config, tmp_path):
    """The rounds of a serial run, for comparison."""
    return fedsim.run(small_config(f"output={tmp_path}/serial")).load().rounds


def test_a_run_through_ray_equals_a_serial_one(small_config, tmp_path, undisturbed):
    rows, started = [], []
    callbacks = [Told(rows.append, started.append)]
    config = small_config("cluster.executor=ray", "cluster.workers=2")
    result = fedsim.run(config, callbacks=callbacks)
    loaded = result.load()
    assert loaded.rounds[SAME].equals(undisturbed[SAME])
    assert [row["round"] for row in rows] == [0, 1, 2]
    assert [(run.stored, run.config.rounds, run.path) for run in started] == [((), 2, str(tmp_path / config.run_id))]
    run = loaded.runs.iloc[0]
    assert run.status == "finished"
    assert run.final_accuracy == undisturbed["accuracy"].iloc[-1]
    assert run.linear_probe_accuracy == undisturbed["accuracy"].iloc[0]
    assert run.uplink_bytes == loaded.clients["payload_bytes"].sum()
    assert run.uplink_bpp == pytest.approx(loaded.clients.query("round > 0")["uplink_bpp"].mean())
    assert run.downlink_bytes == loaded.rounds["downlink_bytes"].sum()
    assert not wait_for_exit(actors("Worker") + actors("Driver"), 20)
    assert ray.is_initialized()  # a cluster that the caller opened stays open


def test_the_clock_is_the_same_on_any_number_of_workers_and_after_a_kill(small_config, tmp_path, kill_actor):
    world = ["world.profile=mixed", "world.buffer=2", "world.dropout=0.3", "world.availability=0.8"]
    keys = ["rounds=4", "partition.clients=8", "participation=0.5", "data.train_samples=200", "evaluate.clients=0.2"]
    keys += world
    serial = fedsim.run(small_config(*keys, f"output={tmp_path}/serial")).load()

    def kill(row):
        if row["round"] == 2:
            kill_actor("Worker")

    config = small_config(*keys, "cluster.executor=ray", "cluster.workers=2")
    found = fedsim.run(config, callbacks=[Told(kill)]).load()
    same = ["state_digest", "simulated_clock", "uplink_bytes", "downlink_bytes", "participants", "lost_clients"]
    assert found.rounds[same].equals(serial.rounds[same])
    same = ["round", "client", "staleness", "client_accuracy", "personal_accuracy", "held_out_samples"]
    assert found.clients[same].equals(serial.clients[same])
    assert found.classes.equals(serial.classes.assign(run_id=found.runs["run_id"].iloc[0]))


def test_a_finished_run_is_not_run_again(small_config):
    config = small_config("rounds=1")
    first = fedsim.run(config)
    again = fedsim.run(config)
    assert again.reused
    assert again.row["finished_at"] == first.load().runs["finished_at"][0]
    assert not fedsim.run(config, fresh=True).reused


def test_a_dead_driver_goes_on_from_its_checkpoint(small_config, tmp_path, undisturbed, kill_actor):
    config = small_config("cluster.executor=ray")
    simulation = RemoteSimulation(config, str(tmp_path), 1, "test")
    assert simulation.step()["round"] == 0
    wait_until(lambda: list((tmp_path / config.run_id).glob("checkpoint-*")), 60)
    kill_actor("Driver")
    assert simulation.step()["round"] == 1
    assert simulation.step()["round"] == 2
    assert simulation.step() is None
    assert simulation.finish("finished")["status"] == "finished"
    assert results.load(tmp_path / config.run_id).rounds[SAME].equals(undisturbed[SAME])


def test_a_driver_that_is_lost_for_good_is_one_line_and_a_true_status(small_config, tmp_path, monkeypatch):
    monkeypatch.setitem(_driver._OPTIONS, "max_restarts", 0)
    config = small_config("cluster.executor=ray")

    def kill(row):
        for process in actors("Driver"):
            os.kill(process, signal.SIGKILL)

    message = (
        r"the process that drives the run was lost for good \(\w+: .*\); its rounds are stored, and the same command"
    )
    with pytest.raises(WorkerLostError, match=message) as raised:
        fedsim.run(config, callbacks=[Told(kill)])
    assert "\n" not in str(raised.value)
    [run] = results.load(tmp_path).runs.to_dict("records")
    assert run["status"] == "failed"
    assert run["error"].startswith("WorkerLostError: the process that drives the run was lost for good")
    monkeypatch.undo()
    assert fedsim.run(config).row["status"] == "finished"


def test_a_failed_run_keeps_its_rounds_and_resumes(small_config, tmp_path, undisturbed):
    config = small_config()

    def fail(row):
        if row["round"] == 1:
            raise RuntimeError("the plot window was closed")

    with pytest.raises(CallbackError, match=r"callback tests.callbacks.Told failed after round 1 .*plot window"):
        fedsim.run(config, callbacks=[Told(fail)])
    loaded = results.load(tmp_path / config.run_id)
    assert loaded.runs["status"].tolist() == ["failed"]
    assert "the plot window was closed" in loaded.runs["error"].iloc[0]
    assert "in fail" in read_log(tmp_path / config.run_id)
    assert loaded.rounds["round"].tolist() == [0, 1]
    started = []
    result = fedsim.resume(tmp_path / config.run_id, callbacks=[Told(start=started.append)])
    assert [row["round"] for row in started[0].stored] == [0, 1]
    assert result.load().rounds[SAME].equals(undisturbed[SAME])
    assert result.row["status"] == "finished"
    assert result.row["started_at"] == loaded.runs["started_at"][0]


def test_rows_of_a_round_in_flight_are_dropped_when_a_run_ends(small_config, tmp_path, monkeypatch):
    config = small_config()
    append = results.RunStore.append

    def append_clients_only(self, table, first, last, rows):
        if table == "rounds" and last > 0:
            raise KeyboardInterrupt
        return append(self, table, first, last, rows)

    monkeypatch.setattr(results.RunStore, "append", append_clients_only)
    with pytest.raises(KeyboardInterrupt):
        fedsim.run(config)
    loaded = results.load(tmp_path)
    assert set(loaded.clients["round"]) == set(loaded.rounds["round"]) == {0}


def test_a_fresh_start_that_is_refused_deletes_nothing(small_config, tmp_path):
    config = small_config("rounds=1")
    fedsim.run(config)
    for override in ("cluster.gpus_per_worker=1", "cluster.workers=64"):
        refused = small_config("rounds=1", "cluster.executor=ray", override)
        assert refused.run_id == config.run_id
        with pytest.raises(ResourceError):
            fedsim.run(refused, fresh=True)
        assert results.load(tmp_path).runs["status"].tolist() == ["finished"]


def test_a_run_that_another_process_writes_is_left_alone(small_config, tmp_path):
    config = small_config("rounds=1")
    other = results.RunStore(str(tmp_path), config.run_id)
    other.write_run({"run_id": config.run_id, "status": "running"})
    other.lock()
    for fresh in (False, True):
        with pytest.raises(OSError, match="another process is writing this run"):
            fedsim.run(config, fresh=fresh)
    assert other.read_run()["status"] == "running"
    other.unlock()


def test_a_renamed_run_is_not_resumed_elsewhere(small_config, tmp_path):
    config = small_config("rounds=1")
    fedsim.run(config)
    (tmp_path / config.run_id).rename(tmp_path / "renamed")
    with pytest.raises(fedsim.ConfigError, match="the folder 'renamed' holds the run 'deltamask-digits"):
        fedsim.resume(tmp_path / "renamed")
    assert [folder.name for folder in tmp_path.iterdir()] == ["renamed"]


def test_requests_that_do_not_fit_are_refused_at_once(small_config):
    for override, resource in (("cluster.workers=3", "CPU"), ("cluster.gpus_per_worker=0.5", "GPU")):
        with pytest.raises(ResourceError, match=resource):
            fedsim.run(small_config("cluster.executor=ray", override))


def test_configuration_errors_of_the_driver_arrive_as_they_were_raised(small_config):
    with pytest.raises(fedsim.ConfigError, match=r"model\.masked_blocks: found 9"):
        fedsim.run(small_config("cluster.executor=ray", "model.masked_blocks=9"))
    with pytest.raises(fedsim.ConfigError, match=r"partition\.clients: found 2000"):
        fedsim.run(small_config("cluster.executor=ray", "partition.clients=2000"))


def _interrupt():
    raise KeyboardInterrupt


def test_a_second_run_starts_without_a_prefix_pass(small_config, tmp_path):
    store = f"cluster.feature_store={tmp_path}/store"
    overrides = ("cluster.executor=ray", "cluster.workers=2", "rounds=1", store)
    first, second = (fedsim.run(small_config(*overrides, f"seed={seed}")).load().rounds for seed in (0, 1))
    assert first["prefix_images"].tolist() == [600 + 200, 0]
    assert second["prefix_images"].tolist() == [0, 0]
    assert second["prefix_seconds"].iloc[1] == pytest.approx(0, abs=1e-3)


def test_two_concurrent_trials_compute_the_prefix_once(small_config, tmp_path):
    @ray.remote(num_cpus=0)
    def trial(config):
        return fedsim.run(config).load().rounds["prefix_images"].sum()

    overrides = ("cluster.executor=ray", "cluster.workers=1", "rounds=1", f"cluster.feature_store={tmp_path}/store")
    trials = [trial.remote(small_config(*overrides, f"seed={seed}")) for seed in (0, 1)]
    assert sum(ray.get(trials)) == 600 + 200


def test_undecodable_images_are_reported_with_the_run(small_config, tmp_path):
    for index in range(20):
        path = tmp_path / "data" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 10 * index).save(path)
    (tmp_path / "data" / "a" / "4.png").write_bytes(b"none")
    overrides = ("data.name=image-folder", f"data.path={tmp_path}/data", "data.max_corrupt=0.2", "rounds=1")
    loaded = fedsim.run(small_config("cluster.executor=ray", *overrides)).load()
    assert loaded.rounds["corrupt_images"].tolist() == [1, 1]
    assert "4.png" in loaded.runs["warnings"].iloc[0]
    with pytest.raises(DataError, match=r"data.max_corrupt: found 1 of"):
        fedsim.run(small_config("cluster.executor=ray", *overrides, "data.max_corrupt=0.01"))
