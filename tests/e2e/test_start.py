"""The newcomer's path runs from top to bottom, as it is written, in one empty folder."""

import contextlib
import glob
import io
import re
import shlex
from pathlib import Path

import results
from fedsim import cli

PAGE = (Path(__file__).parents[2] / "docs" / "start.md").read_text()
#: Kind and text of each block, but those after the comment that says so.
BLOCKS = re.findall(r"(<!-- not run -->\n)?```(bash|python)\n(.*?)```", PAGE, re.DOTALL)


def test_every_block_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for skipped, kind, block in BLOCKS:
        if skipped:
            continue
        if kind == "python" and block.startswith("# my_method.py"):
            Path("my_method.py").write_text(block)
        elif kind == "python":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(block, {})
        else:
            for line in block.splitlines():
                words = [word for pattern in shlex.split(line)[1:] for word in sorted(glob.glob(pattern)) or [pattern]]
                cli.app(words, standalone_mode=False)
    loaded = results.load("runs")
    assert (loaded.runs["status"] == "finished").all()
    assert sorted(loaded.runs["method"]) == ["deltamask", "deltamask", "my_method:LastBlock"]
    assert Path("runs/report/index.html").exists()
    assert Path("partition.png").exists()


def test_blocks_that_are_not_run_are_the_installation_and_the_dashboard():
    skipped = [block.split()[0:2] for marked, _, block in BLOCKS if marked]
    assert skipped == [["python3", "-m"], ["fedsim", "dashboard"]]
