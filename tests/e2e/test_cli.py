"""The command line: its output, its errors, and what is left when it is stopped."""

import os
import re
import signal

import matplotlib.image
import pytest

import fedsim
import results
from tests.processes import ray_processes, wait_for_exit

SMALL = ("rounds=3", "partition.clients=2", "model.masked_blocks=1", "cluster.workers=1")
SERIAL = (*SMALL, "cluster.executor=serial")
COMMANDS = (
    "run",
    "resume",
    "sweep",
    "ls",
    "show",
    "logs",
    "compare",
    "rm",
    "report",
    "dashboard",
    "config",
    "list",
    "partition",
)
SAME = ["round", "accuracy", "loss", "uplink_bytes", "downlink_bytes", "flips", "state_digest"]


def test_run_shows_and_stores_results(cli, tmp_path):
    shown = cli("run", *SERIAL).stdout
    [folder] = (tmp_path / "runs").iterdir()
    loaded = results.load(folder)
    for row in loaded.rounds.itertuples():
        assert f"{row.accuracy:.3f}" in shown
        assert f"{row.uplink_bpp:.4f}" in shown
    run = loaded.runs.iloc[0]
    assert re.search(rf"head +{run.linear_probe_accuracy:.3f} accuracy", shown)
    assert str(folder) in shown
    assert str(folder / "report.png") in shown
    assert matplotlib.image.imread(folder / "report.png").shape[2] == 4
    assert run.command.startswith("fedsim run rounds=3")
    assert "cores" in run.machine
    assert "\x1b" not in shown  # nothing but text where there is no terminal
    assert "had finished before" in cli("run", *SERIAL).stdout


def test_report_is_a_page_of_all_runs(cli, tmp_path):
    for seed in (0, 1):
        fedsim.run(fedsim.load_config(None, [*SERIAL, f"seed={seed}", "rounds=1", f"output={tmp_path}/runs"]))
    assert cli("report", "runs").stdout.strip() == "runs/report/index.html"
    page = (tmp_path / "runs" / "report" / "index.html").read_text()
    runs = results.load(tmp_path / "runs").runs
    assert all(name in page for name in runs["run_id"])
    assert "2 runs (2 finished)" in page
    assert matplotlib.image.imread(tmp_path / "runs" / "report" / "accuracy_over_rounds.png").shape[2] == 4
    one, other = (f"runs/{name}" for name in runs["run_id"])
    assert cli("report", one, other, "--output", "pages").stdout.strip() == "pages/index.html"
    assert (tmp_path / "pages" / "index.html").read_text() == page
    assert "expected each run once" in cli("report", "runs", one, code=2).stderr


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_every_command_has_a_help(cli, command):
    assert f"Usage: fedsim {' '.join(command)}" in cli(*command, "--help").stdout


def test_list_shows_every_key_and_member(cli):
    shown = cli("list", "all").stdout
    for word in (
        "method.kappa",
        "method.compressor.rate",
        "  eden ",
        "partition.alpha",
        "cluster.gpus_per_worker",
        "deltamask",
        "digits",
        "dirichlet",
        "tiny-vit",
    ):
        assert word in shown
    for codec in ("fuse8+png", "fuse16", "xor8", "xor16"):
        assert f" {codec} " in shown
    keys = re.findall(r"^ {0,4}([a-z]+\.[a-z_.]+) ", shown, re.MULTILINE)  # not those in the last column
    assert len(keys) > 60
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "method.kapa=1"), "method.kapa: unknown key; did you mean 'kappa'?"),
        (("run", "missing.yaml"), "config: expected a YAML file at 'missing.yaml'"),
        (("run", *SERIAL, "partition.clients=9999"), "partition.clients: found 9999, allowed: at most 1293"),
        (("resume", "nowhere"), "path: expected the folder of a run"),
        (("run", *SERIAL, "output=/proc/runs"), "/proc/runs"),
        (("report", "ftp://x/y", "--output", "x"), "found 'ftp://x/y', allowed: a local path"),
        (("report", "nowhere"), "path: expected a run or a folder of runs"),
    ],
)
def test_errors_are_one_message_without_a_traceback(cli, arguments, message):
    done = cli(*arguments, code=2)
    assert done.stdout.strip() == ""  # rich before 14.3 ends a display that showed nothing by an empty line
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_stopped_and_killed_runs_keep_their_rounds_and_go_on(terminal, cli, tmp_path):
    """Ctrl-C, then SIGKILL, then to the end: the same rounds as an undisturbed run, and no Ray process left."""
    before = ray_processes()
    # On a busy machine the signal comes within a round, of which nothing is kept.
    first = terminal("run", *SMALL, "rounds=9", "cluster.checkpoint_seconds=0")
    first.read_until(b"round 1/9")
    first.signal(signal.SIGINT)
    assert first.wait() == 130
    assert b"interrupted: finished rounds are stored" in first.output
    assert b"Traceback" not in first.output
    assert not wait_for_exit(ray_processes() - before, 20)
    [folder] = (tmp_path / "runs").iterdir()
    loaded = results.load(folder)
    assert loaded.runs["status"].tolist() == ["interrupted"]
    stored = loaded.rounds["round"].tolist()
    assert stored == list(range(len(stored)))
    assert stored

    second = terminal("resume", str(folder))
    second.read_until(b"going on after round")
    second.read_until(f"round {len(stored)}/9".encode())
    os.kill(second.process.pid, signal.SIGKILL)
    second.wait()
    before = ray_processes()  # Ray's agents take a minute to notice a killed parent
    loaded = results.load(folder)
    assert loaded.runs["status"].tolist() == ["running"]
    assert len(loaded.rounds) > len(stored)

    cli("run", *SMALL, "rounds=9")
    undisturbed = fedsim.run(fedsim.load_config(None, [*SERIAL, "rounds=9", f"output={tmp_path}/undisturbed"])).load()
    loaded = results.load(folder)
    assert loaded.runs["status"].tolist() == ["finished"]
    assert loaded.rounds[SAME].equals(undisturbed.rounds[SAME])
    assert loaded.clients[["round", "client", "payload_bytes"]].equals(
        undisturbed.clients[["round", "client", "payload_bytes"]]
    )
    assert not wait_for_exit(ray_processes() - before, 20)


def test_sigterm_ends_a_run_like_ctrl_c(terminal, tmp_path):
    run = terminal("run", *SERIAL, "rounds=500")
    run.read_until(b"round 1/500")
    run.signal(signal.SIGTERM)
    assert run.wait() == 130
    assert results.load(tmp_path / "runs").runs["status"].tolist() == ["interrupted"]


SWEEP = """
base:
  rounds: 2
  data: {train_samples: 64, test_samples: 40}
  partition: {clients: 2}
  model: {masked_blocks: 1}
  cluster: {executor: serial}
space:
  method.name: {grid: [deltamask, deltamask-plus]}
  seed: {grid: [0, 1]}
  train.lr: {loguniform: [0.03, 0.3]}
  method.kappa: {uniform: [0.2, 1.0]}
search: {trials: 2, batch: 1, objectives: {final_accuracy: max, uplink_bytes: min}}
"""


def test_a_sweep_that_is_killed_goes_on_to_the_rows_of_an_undisturbed_one(terminal, cli, tmp_path):
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    killed = terminal("sweep", "sweep.yaml")
    killed.read_until(b"4/8")
    os.kill(killed.process.pid, signal.SIGKILL)
    killed.wait()
    before = ray_processes()  # Ray's agents take a minute to notice a killed parent
    stored = results.load(tmp_path / "runs").runs
    assert 4 <= (stored["status"] == "finished").sum() < 8

    shown = cli("sweep", "sweep.yaml").stdout
    assert "8 finished" in shown
    assert "0 failed" in shown
    assert not wait_for_exit(ray_processes() - before, 20)
    fedsim.sweep(tmp_path / "sweep.yaml", [f"output={tmp_path}/undisturbed"])
    loaded, undisturbed = results.load(tmp_path / "runs"), results.load(tmp_path / "undisturbed")
    assert set(loaded.runs["status"]) == {"finished"}
    assert len(loaded.runs) == 8
    assert loaded.rounds[["run_id", *SAME]].equals(undisturbed.rounds[["run_id", *SAME]])
    assert loaded.clients[["run_id", "round", "client", "payload_bytes"]].equals(
        undisturbed.clients[["run_id", "round", "client", "payload_bytes"]]
    )


def test_errors_of_a_sweep_are_one_message(cli, tmp_path):
    (tmp_path / "sweep.yaml").write_text("space: {data.nam: {grid: [1]}}")
    assert "did you mean 'name'?" in cli("sweep", "sweep.yaml", code=2).stderr
