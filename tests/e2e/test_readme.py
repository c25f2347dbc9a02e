"""Every command of the README and the contributing guide runs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import results
from deltamask.payload import HEADER_BYTES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.split("  #")[0].strip() for kind, block in BLOCKS if kind == "bash" for line in block.splitlines()]


def link_environment(folder):
    """Have commands find the environment where the documents say that it is."""
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)


def test_every_shell_command_is_known_here():
    assert COMMANDS[:2] == ["make demo", "make test"]  # the second is what runs this test
    assert all(command.startswith(".venv/bin/fedsim ") for command in COMMANDS[2:])


def test_fedsim_commands_and_python_example_run(tmp_path):
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    link_environment(tmp_path)
    for command in COMMANDS[2:]:
        subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert (tmp_path / "runs" / "report" / "index.html").exists()
    [example] = [block for kind, block in BLOCKS if kind == "python"]
    shown = subprocess.run([sys.executable, "-c", example], check=True, cwd=tmp_path, capture_output=True, text=True)
    assert shown.stdout.split()[:4] == ["round", "accuracy", "uplink_bytes", "uplink_bpp"]


def test_the_members_of_the_contributing_guide_run_through_ray_and_pass_their_contracts(tmp_path):
    text = (ROOT / "CONTRIBUTING.md").read_text()
    blocks = re.findall(r"```(python|bash)\n(.*?)```", text, re.DOTALL)
    for code in (block for kind, block in blocks if kind == "python"):
        (tmp_path / code.splitlines()[0].removeprefix("# ")).write_text(code)
    link_environment(tmp_path)
    [commands] = [block for kind, block in blocks if kind == "bash"]
    for command in commands.strip().splitlines():
        subprocess.run(f"{command} output=runs partition.clients=4", shell=True, check=True, cwd=tmp_path)
    loaded = results.load(tmp_path / "runs")
    dense, masked = (loaded.runs.query("method == @name").iloc[0] for name in ("my_methods:LastBlocks", "deltamask"))
    assert set(loaded.runs["status"]) == {"finished"}
    # One bit for each weight of two blocks out of five, and a header and a magnitude.
    assert dense.uplink_bpp == pytest.approx(2 / 5, rel=0.01)
    assert dense.final_accuracy > 0.8
    clients = loaded.clients.query("run_id == @masked.run_id and round > 0")
    assert (clients["payload_bytes"] == HEADER_BYTES + 4 * clients["sent_size"]).all()
    assert masked.weights == "random"
    resume = [Path(sys.executable).with_name("fedsim"), "resume", f"runs/{dense.run_id}"]
    refused = subprocess.run(resume, cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "head.name: found 'my_heads:ClassMeans' in a stored configuration" in refused.stderr
    subprocess.run([*resume, "--trust"], cwd=tmp_path, check=True)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_members.py"]
    subprocess.run(command, check=True, cwd=tmp_path, env=environment)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_demo_gains_three_points_over_its_linear_probe(tmp_path):
    shown = subprocess.run(
        ["make", "-C", str(ROOT), "demo", f"ARGS=output={tmp_path} rounds=8"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    loaded = results.load(tmp_path)
    run = loaded.runs.iloc[0]
    assert run.status == "finished"
    assert run.clients == 10
    assert run.final_accuracy >= run.linear_probe_accuracy + 0.03
    assert re.search(rf"head +{run.linear_probe_accuracy:.3f}", shown)
    assert f"{run.uplink_bpp:.4f} bpp" in shown
    assert run.run_id in shown
    assert "report.png" in shown
