"""Progress of a run as it is shown: lines, a bar, and a notebook's."""

import io
import re
import sys

import pytest
from rich.console import Console

import fedsim
from fedsim.callbacks import Run, Sweep
from fedsim.display import LiveProgress, NotebookProgress
from fedsim.sweeps.display import LiveSweep
from fedsim.testing._experiments import small_config

TINY = ("rounds=2", "partition.clients=2", "data.train_samples=64", "data.test_samples=40")
ROW = {"accuracy": 0.5, "uplink_bpp": 0.25, "round_seconds": 1.5, "participants": 2}


def test_each_round_is_a_line_where_the_output_is_no_terminal(tmp_path):
    shown = io.StringIO()
    with LiveProgress(Console(file=shown, width=200)) as live:
        fedsim.run(small_config(tmp_path, *TINY), callbacks=[live])
    rounds = shown.getvalue().splitlines()
    assert len(rounds) == 3
    number = r"\d+\.\d+"
    for index, line in enumerate(rounds):
        left = r"  \d+ s left" * (index == 1)
        assert re.fullmatch(rf"round {index}/2  accuracy {number}  uplink {number} bpp  {number} s{left}", line), line


def test_a_bar_shows_the_phase_from_the_start_on_and_what_is_printed_above_it(tmp_path):
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=120, color_system=None)
    run = Run(small_config(tmp_path, *TINY), "runs/one", phase=lambda: "prefix features 32/104 images")
    with LiveProgress(console) as live:
        assert live.phase.startswith("starting, ")
        live.start(run)
        live._live.refresh()
        live.round(run, ROW | {"round": 0})
        sys.stdout.write("client 0 | hello\n")
        live._live.refresh()
    text = shown.getvalue()
    assert "prefix features 32/104 images, 0 s" in text
    assert "client 0 | hello\n" in text
    assert "accuracy 0.500  uplink 0.2500 bpp" in text
    assert "round 0/2" in text


def test_a_notebook_gets_a_bar(tmp_path, monkeypatch):
    ipython = pytest.importorskip("IPython")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    ipython.core.interactiveshell.InteractiveShell.instance(history_length=0)
    with ipython.utils.capture.capture_output() as captured:
        progress = NotebookProgress()
        run = Run(small_config(tmp_path, *TINY), "runs/one")
        progress.start(run)
        progress.round(run, ROW | {"round": 1})
        progress.end(run, {"status": "finished"})
    ipython.core.interactiveshell.InteractiveShell.clear_instance()
    pages = [output.data["text/html"] for output in captured.outputs]
    assert 'value="0" max="1"' in pages[0]
    assert pages[2].startswith('<progress value="1" max="2"></progress> round 1/2 · accuracy 0.500')
    assert pages[3].endswith("finished")


def test_a_result_is_a_picture_and_tables_in_a_notebook(tmp_path):
    result = fedsim.run(small_config(tmp_path, *TINY))
    page = result._repr_html_()
    assert page.count("<table") == 2
    assert "data:image/png;base64,iVBOR" in page
    assert result.row["run_id"] in page
    assert result.load()._repr_html_() in page


def test_a_failed_run_of_a_sweep_says_where_all_of_its_error_is(tmp_path):
    shown = io.StringIO()
    sweep = Sweep("night", 2, "runs")
    runs = [
        Run(small_config(tmp_path, f"seed={seed}"), f"runs/{seed}", values={"seed": seed}, sweep=sweep)
        for seed in (0, 1)
    ]
    with LiveSweep(Console(file=shown, width=200)) as live:
        for run in runs:
            live.start(run)
        live.end(runs[1], {"status": "failed", "error": "ClientError: bad\n  File ..."})
        live.end(runs[0], {"status": "finished", "final_accuracy": 0.5, "uplink_bpp": 0.1})
    assert shown.getvalue().splitlines() == [
        "sweep     2 runs in runs",
        "1/2  seed=1  failed: ClientError: bad",
        "          all of it: fedsim logs runs/1",
        "2/2  seed=0  finished  accuracy 0.500  0.1000 bpp",
    ]
