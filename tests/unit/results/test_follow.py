"""Following runs: the tables are those of a fresh reading, and nothing is read again that has not changed."""

import shutil

import pandas as pd
import pytest

import results
from results import follow
from tests.unit.results.writing import add_rounds, write_run


def same(one, other):
    for table in ("runs", "rounds"):
        left, right = (getattr(of, table).sort_values("run_id", kind="stable") for of in (one, other))
        pd.testing.assert_frame_equal(left.reset_index(drop=True), right.reset_index(drop=True))
    assert set(one.last_written) == set(other.last_written)


def test_only_runs_that_have_changed_are_read_again(tmp_path):
    follower = follow.Follower([tmp_path])
    assert follower.read().runs.empty
    stores = [results.RunStore(str(tmp_path), f"run-{index}") for index in range(3)]
    for store in stores:
        write_run(store, status="finished" if store is stores[0] else "running")
        add_rounds(store, range(2))
    same(follower.read(), results.load(tmp_path, tables=("runs", "rounds")))
    before = follower.read()
    assert follower.read() is before
    rounds = before.rounds[before.rounds["run_id"] == "run-0"]
    shutil.rmtree(tmp_path / "run-0" / "rounds")  # nobody looks there again
    add_rounds(stores[1], [2], 0.5)
    write_run(stores[2], status="finished", final_accuracy=0.5)
    found = follower.read()
    kept = found.rounds[found.rounds["run_id"] == "run-0"].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, rounds.reset_index(drop=True))
    assert found.rounds.groupby("run_id").size().to_dict() == {"run-0": 2, "run-1": 3, "run-2": 2}
    assert found.runs.set_index("run_id")["status"].to_dict() == {
        "run-0": "finished", "run-1": "running", "run-2": "finished",
    }  # fmt: skip
    assert list(found.last_written) == ["run-1"]
    assert follower.read() is found
    stores[2].delete()
    same(follower.read(), results.load(tmp_path, tables=("runs", "rounds")))
    assert set(follower.read().runs["run_id"]) == {"run-0", "run-1"}


def test_single_runs_missing_folders_and_damaged_runs(tmp_path):
    store = results.RunStore(str(tmp_path / "a"), "run-0")
    write_run(store)
    follower = follow.Follower([tmp_path / "a" / "run-0", tmp_path / "later"])
    assert follower.read().runs["run_id"].tolist() == ["run-0"]
    later = results.RunStore(str(tmp_path / "later"), "run-1")
    write_run(later)
    assert set(follower.read().runs["run_id"]) == {"run-0", "run-1"}
    (tmp_path / "later" / "run-1" / "run.parquet").write_bytes(b"nothing")
    with pytest.warns(UserWarning, match="its run is left out"):
        found = follower.read()
    assert found.runs["run_id"].tolist() == ["run-0"]
    assert "run-1" in found.damaged[0]
    write_run(later, status="finished")
    found = follower.read()
    assert (set(found.runs["run_id"]), found.damaged) == ({"run-0", "run-1"}, ())
