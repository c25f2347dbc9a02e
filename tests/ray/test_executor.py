"""The Ray executor gives what the serial one gives, with any number of workers, also when workers die."""

import pytest
import ray

from fedsim import ResourceError, WorkerLostError
from fedsim.distributed import RayExecutor, start_workers
from fedsim.engine import Broadcast, Federation, SerialExecutor
from fedsim.methods import METHODS

pytestmark = pytest.mark.usefixtures("ray_cluster")


def ray_executor(config, workers):
    return RayExecutor(config, start_workers(config, [None] * workers))


COLUMNS = ("accuracy", "accuracy_expected", "accuracy_sampled", "loss", "uplink_bytes", "flips", "state_digest")


def rounds(config, executor, on_round=lambda index: None):
    federation = Federation(config, executor)
    rows = []
    try:
        while not federation.done:
            on_round(federation.next_round)
            rows.append(federation.run_round().round)
    finally:
        executor.close()
    return rows


@pytest.fixture
def config(small_config):
    # Two of the five clients in a round: cohorts and loads differ from round to round.
    return small_config(
        "partition.clients=5",
        "participation=0.4",
        "partition.name=dirichlet",
        "partition.alpha=0.5",
        "evaluate.also=[expected, sampled]",
    )


def test_serial_one_worker_and_two_workers_are_identical(config):
    serial = rounds(config, SerialExecutor(config))
    assert len({row["state_digest"] for row in serial}) == 3
    for workers in (1, 2):
        distributed = rounds(config, ray_executor(config, workers))
        for expected, found in zip(serial, distributed, strict=True):
            for column in COLUMNS:
                assert found.get(column) == expected.get(column), (workers, expected["round"], column)


#: Few of the many steps of two methods whose time is in these.
SHORT = {
    "fedkseed": ["method.steps=3", "method.candidates=16", "method.batch_size=16"],
    "decomfl": ["method.steps=2", "method.perturbations=2", "method.batch_size=16"],
}


def one_of_each_kind():
    """A method for each pair of halves, as several methods share theirs; deltamask is tested above."""
    found = {}
    for method in METHODS:
        found.setdefault((method.Client, method.Server), method.name)
    return [name for name in found.values() if name != "deltamask"]


@pytest.mark.parametrize("method", one_of_each_kind())
def test_every_method_is_the_same_through_ray(small_config, method):
    keys = ["data.train_samples=200", "data.test_samples=100", *SHORT.get(method, [])]
    config = small_config(f"method.name={method}", *keys)
    serial, distributed = rounds(config, SerialExecutor(config)), rounds(config, ray_executor(config, 2))
    for expected, found in zip(serial, distributed, strict=True):
        assert [found.get(column) for column in COLUMNS] == [expected.get(column) for column in COLUMNS]


def test_a_dead_worker_is_restarted_and_its_clients_are_redone(config, kill_actor):
    expected = rounds(config, SerialExecutor(config))
    killed = []

    def on_round(index):
        if index == 2:
            killed.append(kill_actor("Worker"))

    found = rounds(config, ray_executor(config, 1), on_round)
    assert killed
    assert [r["state_digest"] for r in found] == [r["state_digest"] for r in expected]
    assert found[2]["retries"] >= 1
    assert all(row["lost_clients"] == 0 for row in found)


def test_a_worker_that_dies_after_its_first_upload_owes_only_the_others(small_config, kill_actor):
    config = small_config("partition.clients=6")
    federation = Federation(config, executor := ray_executor(config, 2))
    broadcast = federation.downlink.current("head", federation.servers["head"])
    results = []
    for result in executor.train("head", 0, range(6), broadcast, {}):
        if not results:
            kill_actor("Worker")
        results.append(result)
    executor.close()
    serial = {r.client: r for r in SerialExecutor(config).train("head", 0, range(6), broadcast, {})}
    assert sorted(r.client for r in results) == list(range(6))
    assert all(r.update.payload == serial[r.client].update.payload for r in results)
    assert all(r.attempt <= 2 for r in results)


def test_workers_that_keep_dying_end_the_run_with_an_error(small_config, kill_actor):
    config = small_config("cluster.max_attempts=1")
    federation = Federation(config, executor := ray_executor(config, 1))
    federation.run_round()
    kill_actor("Worker")
    with pytest.raises(WorkerLostError, match=r"client 0 of round 1 was lost with worker 0, 1 time"):
        federation.run_round()
    executor.close()


def test_evaluation_survives_a_dead_worker(small_config, kill_actor):
    config = small_config()
    federation = Federation(config, executor := ray_executor(config, 2))
    federation.run_round()
    broadcast = federation.downlink.current("method", federation.servers["method"])
    expected = executor.evaluate("method", 1, 3, broadcast)
    kill_actor("Worker")
    assert executor.evaluate("method", 1, 3, broadcast) == expected
    executor.close()


def test_errors_of_clients_arrive_as_they_were_raised(small_config):
    config = small_config()
    executor = ray_executor(config, 1)
    with pytest.raises(ValueError, match="frame"):
        list(executor.train("method", 1, [0], Broadcast(b"not a broadcast"), {}))
    with pytest.raises(ValueError, match="frame"):
        executor.evaluate("method", 1, 1, Broadcast(b"not a broadcast"))
    executor.close()


def test_workers_that_find_no_room_end_the_run_with_an_error(small_config):
    holder = ray.remote(num_cpus=2)(type("Holder", (), {"hold": lambda self: None})).remote()
    ray.get(holder.hold.remote())
    config = small_config("cluster.start_seconds=1")
    executor = ray_executor(config, 1)
    with pytest.raises(ResourceError, match=r"1 of 1 did not start within cluster.start_seconds=1; the cluster has"):
        list(executor.train("head", 0, [0], Broadcast(b""), {}))
    executor.close()
    ray.kill(holder)


HANGING = "method.name=tests.unit.fedsim.engine.faulty:Hanging"


def test_a_client_that_hangs_is_computed_again_by_another_process(small_config, tmp_path):
    config = small_config(HANGING, f"method.marker={tmp_path}/hung", "cluster.client_seconds=10")
    expected = rounds(small_config("method.name=fedavg"), SerialExecutor(small_config("method.name=fedavg")))
    found = rounds(config, ray_executor(config, 2))
    assert [row["state_digest"] for row in found] == [row["state_digest"] for row in expected]
    assert found[1]["retries"] >= 1


def test_a_client_that_always_hangs_ends_the_run_by_name_or_is_left_out(small_config, tmp_path):
    keys = [
        f"method.marker={tmp_path}/hung",
        "method.always=true",
        "cluster.client_seconds=5",
        "cluster.max_attempts=1",
    ]
    config = small_config(HANGING, *keys)
    executor = ray_executor(config, 1)
    with pytest.raises(
        WorkerLostError,
        match=r"client 1 of round 1 was lost with worker 0, 1 time.*nothing for cluster.client_seconds=5",
    ):
        rounds(config, executor)
    config = small_config(HANGING, "on_client_error=drop", *keys)
    federation = Federation(config, executor := ray_executor(config, 2))
    federation.run_round()
    outcome = federation.run_round()
    executor.close()
    assert (outcome.round["participants"], outcome.round["lost_clients"]) == (3, 1)
    [lost] = [row for row in outcome.clients if "error" in row]
    assert lost["client"] == 1
    assert lost["error"].startswith("WorkerLostError: client 1 of round 1 was lost with worker")


def test_failing_clients_are_dropped_as_they_are_in_one_process(small_config):
    config = small_config("method.name=tests.unit.fedsim.engine.faulty:Faulty", "on_client_error=drop")
    serial, found = rounds(config, SerialExecutor(config)), rounds(config, ray_executor(config, 2))
    assert [row["lost_clients"] for row in found] == [0, 1, 0]
    assert [row["state_digest"] for row in found] == [row["state_digest"] for row in serial]


def test_a_round_that_takes_too_long_ends_the_run_and_names_who_was_at_it(small_config, tmp_path):
    keys = [f"method.marker={tmp_path}/hung", "method.always=true", "cluster.round_seconds=20"]
    config = small_config(HANGING, *keys)
    executor = ray_executor(config, 1)
    with pytest.raises(
        WorkerLostError, match=r"cluster.round_seconds=20 passed; still at work: worker 0: client 1 of round 1$"
    ):
        rounds(config, executor)
