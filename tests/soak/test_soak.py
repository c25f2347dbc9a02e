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
from results import tables
from tests.callbacks import Told

pytestmark = pytest.mark.long

_ROUNDS, _RUNS = 500, 50
_KEYS = ("data.train_samples=120", "data.test_samples=40", "partition.clients=4", "model.masked_blocks=1")


def _settled(what: str) -> int:
    """From when on nothing may grow."""
    return 50 if what.startswith("rounds") else _RUNS // 5


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
        (folder / "table.md").write_text(tables.to_markdown(_table(rows).astype(str)))


def _table(rows: list[dict]) -> pd.DataFrame:
    """A row for each kind of use: what was held once it had settled, and in the end."""
    lines = []
    for what, seen in pd.DataFrame(rows).groupby("what", sort=False):
        first, last = seen[seen["index"] >= _settled(what)].iloc[0], seen.iloc[-1]
        pairs = {key: f"{first[key]}, {last[key]}" for key in ("threads", "descriptors", "ray_folders")}
        megabytes = f"{first['memory'] / 1e6:.0f}, {last['memory'] / 1e6:.0f}"
        lines.append({"what": what, "from, to": f"{first['index']}, {last['index']}", "memory, MB": megabytes, **pairs})
    return pd.DataFrame(lines)


@pytest.mark.parametrize("method", ["deltamask-plus", "fedavg"])
def test_rounds_leave_nothing_behind(samples, tmp_path, method):
    sparse = ["method.compressor.name=top-k", "method.error_feedback=true"] if method == "fedavg" else []
    keys = [*_KEYS, *sparse, f"method.name={method}", f"rounds={_ROUNDS}", "cluster.executor=serial"]
    seen = []

    def look(row):
        if row["round"] % 10 == 0:
            seen.append({"what": f"rounds of {method}", "index": row["round"], **_resources()})

    fedsim.run(fedsim.load_config(None, [*keys, f"output={tmp_path}"]), callbacks=[Told(look)])
    samples += seen
    _check(seen)


@pytest.mark.parametrize("executor", ["serial", "ray"])
def test_runs_leave_nothing_behind(samples, tmp_path, executor):
    seen = []
    for seed in range(_RUNS):
        keys = [*_KEYS, "rounds=1", "cluster.workers=1", f"cluster.executor={executor}", f"seed={seed}"]
        fedsim.run(fedsim.load_config(None, [*keys, f"output={tmp_path}"]))
        seen.append({"what": f"runs, {executor}", "index": seed, **_resources()})
    samples += seen
    _check(seen)


def _check(seen: list[dict]) -> None:
    first, last = next(one for one in seen if one["index"] >= _settled(one["what"])), seen[-1]
    assert last["memory"] <= 1.05 * first["memory"], (first, last)
    for what in ("threads", "descriptors", "ray_folders"):
        assert last[what] <= first[what], (first, last)
