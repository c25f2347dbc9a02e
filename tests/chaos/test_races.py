"""Two processes that write one run on an object store: the later one wins, and what is finished is whole."""

from __future__ import annotations

import multiprocessing
import random
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress

import pytest

import fedsim
import results
from tests.callbacks import Told
from tests.chaos.case import differences

_KEYS = ("rounds=4", "data.train_samples=120", "data.test_samples=60", "partition.clients=3", "model.masked_blocks=1")
_RACES = 50


def _run(output: str, delay: float) -> str:
    """Run the experiment, after some time and with some between rounds: what came of it."""
    time.sleep(delay)
    rng = random.Random(f"{output} {delay}")
    callbacks = [Told(lambda row: time.sleep(rng.uniform(0, 0.2)))]
    keys = [*_KEYS, "cluster.executor=serial", "cluster.checkpoint_seconds=0", f"output={output}"]
    with suppress(results.OwnershipError):
        return "reused" if fedsim.run(fedsim.load_config(None, keys), callbacks=callbacks).reused else "finished"
    return "lost"


@pytest.mark.long
def test_a_race_of_two_writers_never_ends_in_a_finished_run_that_is_not_whole(tmp_path, object_store, record):
    calm = fedsim.run(fedsim.load_config(None, [*_KEYS, "cluster.executor=serial", f"output={tmp_path}"])).load()
    run_id = calm.runs["run_id"][0]
    rng = random.Random(0)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        for race in range(_RACES):
            output = f"{object_store}/race-{race}"
            ends = [future.result() for future in [pool.submit(_run, output, rng.uniform(0, 1.0)) for _ in range(2)]]
            status = results.load(f"{output}/{run_id}").runs["status"][0]
            if status != "finished":
                assert _run(output, 0) == "finished"
            wrong = differences(f"{output}/{run_id}", calm)
            record(
                fault="race of two writers",
                storage="s3",
                seed=race,
                happened=", ".join(ends),
                commands=2 + (status != "finished"),
                identical=not wrong,
                differences="; ".join(wrong),
                lost_clients=0,
            )
            assert not wrong, (race, ends, wrong)
