"""Long use of one process: its memory, threads, descriptors and temporary files stay what they were."""

from __future__ import annotations

import gc
import os
import platform
import threading
from pathlib import Path

import pandas as pd
import pytest

import fedsim
from fedsim.provenance import command_line, describe_machine, git_commit

pytestmark = pytest.mark.long

_ROUNDS, _RUNS, _SETTLED = 500, 50, 50
_KEYS = ("data.train_samples=120", "data.test_samples=40", "partition.clients=4", "model.masked_blocks=1")


def _resources() -> dict[str, int]:
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "memory": int(status["VmRSS"].split()[0]) * 1024,
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "ray_folders": len(list(Path("/tmp/ray").glob(f"session_*_{os.getpid()}"))),
    }


@pytest.fixture(scope="module")
def samples(request):
    """What was seen; written where ``--record`` says."""
    rows: list[dict] = []
    yield rows
    if (folder := request.config.getoption("--record")) is not None:
        folder.mkdir(parents=True, exist_ok=True)
        said = {"command": command_line(), "git_commit": git_commit()}
        machine = f"{describe_machine()}, {platform.release()}"
        pd.DataFrame(rows).assign(**said, machine=machine).to_parquet(folder / "soak.parquet", index=False)


@pytest.mark.parametrize("method", ["deltamask-plus", "fedavg"])
def test_rounds_leave_nothing_behind(samples, tmp_path, method):
    sparse = ["method.compressor.name=top-k", "method.error_feedback=true"] if method == "fedavg" else []
    keys = [*_KEYS, *sparse, f"method.name={method}", f"rounds={_ROUNDS}", "cluster.executor=serial"]
    seen = []

    def look(row):
        if row["round"] % 10 == 0:
            seen.append({"what": f"rounds of {method}", "index": row["round"], **_resources()})

    fedsim.run(fedsim.load_config(None, [*keys, f"output={tmp_path}"]), progress=fedsim.Progress(on_round=look))
    samples += seen
    _check([one for one in seen if one["index"] >= _SETTLED])


@pytest.mark.parametrize("executor", ["serial", "ray"])
def test_runs_leave_nothing_behind(samples, tmp_path, executor):
    seen = []
    for seed in range(_RUNS):
        keys = [*_KEYS, "rounds=1", "cluster.workers=1", f"cluster.executor={executor}", f"seed={seed}"]
        fedsim.run(fedsim.load_config(None, [*keys, f"output={tmp_path}"]))
        seen.append({"what": f"runs, {executor}", "index": seed, **_resources()})
    samples += seen
    _check(seen[_RUNS // 5 :])


def _check(seen: list[dict]) -> None:
    first, last = seen[0], seen[-1]
    assert last["memory"] <= 1.05 * first["memory"], (first, last)
    for what in ("threads", "descriptors", "ray_folders"):
        assert last[what] <= first[what], (first, last)
