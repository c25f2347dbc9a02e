"""Running a command in this process, and runs to look at."""

import json
from datetime import datetime, timezone

import pytest

import results
from fedsim import cli
from tests.unit.results.writing import add_rounds


@pytest.fixture
def command(capsys):
    """Runs a command and gives its exit code and what it printed."""

    def call(*words):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLUMNS", "200")
            try:
                code = cli.app(list(words), standalone_mode=False) or 0
            except SystemExit as exit:
                code = exit.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def write_runs(output):
    """Three runs: two that differ in a key, one that failed."""
    for number, (name, lr, status) in enumerate((("a", 0.1, "finished"), ("b", 0.2, "finished"), ("c", 0.2, "failed"))):
        store = results.RunStore(output, f"run-{name}")
        store.lock()
        add_rounds(store, range(3), value=0.5 + number / 10)
        row = {
            "run_id": f"run-{name}",
            "status": status,
            "method": "deltamask",
            "dataset": "digits",
            "seed": number,
            "final_accuracy": 0.5 + number / 10,
            "uplink_bytes": 2000,
            "config": json.dumps({"seed": number, "method": {"name": "deltamask"}, "train": {"lr": lr}}),
            "started_at": datetime(2026, 1, 1 + number, tzinfo=timezone.utc),
            "error": "ClientError: client 3 failed\n  File 'mine.py', line 7" if status == "failed" else None,
        }
        store.write_run(row)
        store.unlock()
    return output


@pytest.fixture
def runs(tmp_path):
    """The folder of three runs."""
    return write_runs(str(tmp_path / "runs"))
