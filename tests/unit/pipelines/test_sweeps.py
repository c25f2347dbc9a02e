"""Small comparisons: their sweep files are valid, and finished runs become a table."""

from pathlib import Path

import pytest

import fedsim
from fedsim.sweeps.config import load_sweep
from fedsim.sweeps.plan import Plan
from pipelines.benchmarks import sweeps

FILES = sorted(Path(sweeps.__file__).parent.glob("*.yaml"))


@pytest.mark.parametrize(("name", "runs"), [("masks", 16), ("preset", 32), ("federation", 16), ("dinov2", 5)])
def test_sweep_files_are_valid(name, runs):
    [path] = [path for path in FILES if path.stem == name]
    assert Plan(load_sweep(path, ["data.path=somewhere"])).total == runs


def test_finished_runs_become_a_table_without_the_machine_s_paths(tmp_path):
    for method in ("fedavg", "deltamask"):
        for seed in (1, 2):
            fedsim.run(
                {
                    "seed": seed,
                    "rounds": 1,
                    "output": str(tmp_path),
                    "data": {"train_samples": 100, "test_samples": 50},
                    "partition": {"clients": 2},
                    "model": {"masked_blocks": 1},
                    "method": {"name": method},
                    "cluster": {"executor": "serial"},
                }
            )
    loaded = sweeps.finished(str(tmp_path))
    assert "command" not in loaded.runs
    text = sweeps.markdown(loaded.runs)
    header, _, *rows = text.strip().splitlines()
    assert header == "| method | head alone | accuracy | up kB | down kB |"
    assert [row.split(" | ")[0] for row in rows] == ["| deltamask", "| fedavg"]
    total = loaded.clients.query("run_id.str.startswith('fedavg')")["payload_bytes"].sum() / 2 / 2 / 1e3
    assert f"| {total:,.1f} |" in rows[1]
