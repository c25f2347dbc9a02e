"""The code of the documents on results runs, block by block, and prints what the files hold."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

import results
from fedsim import cli

DOCS = Path(__file__).parents[2] / "docs"


def blocks(name):
    return re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The folder in which the walk-through ran, and the names that it left."""
    folder, names = tmp_path_factory.mktemp("walkthrough"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in blocks("walkthrough.md"):
            exec(block, names)
    return folder, names


def test_the_walkthrough_ends_in_a_table_and_figures(walked):
    folder, names = walked
    main, runs = names["main"], results.load(folder / "runs").runs
    assert main["method"].tolist() == ["deltamask", "eden"]
    mean = 100 * runs.groupby("method")["final_accuracy"].mean()
    assert [cell.split()[0] for cell in main["digits"]] == [f"{value:.1f}" for value in mean]
    assert r"$\pm$" in (folder / "paper" / "main.tex").read_text()
    assert {path.name for path in (folder / "paper").iterdir()} == {"main.tex", "accuracy.png", "bytes.pdf"}


@pytest.mark.parametrize("block", blocks("results.md"), ids=["load", "some", "duckdb", "polars"])
def test_the_ways_of_reading_agree(walked, monkeypatch, block):
    for package in ("duckdb", "polars"):
        if f"import {package}" in block and importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    monkeypatch.chdir(walked[0])
    names = {"results": results}
    exec(block, names)
    if "final" in names:
        rows = names["final"].rows() if "polars" in block else names["final"].fetchall()
        loaded = results.load("runs")
        rounds = loaded.rounds.merge(loaded.runs[["run_id", "method", "seed"]], on="run_id")
        expected = rounds.groupby(["method", "seed"]).agg({"accuracy": "last", "uplink_bytes": "sum"}).reset_index()
        assert [tuple(row) for row in rows] == list(expected.itertuples(index=False, name=None))


def test_how_clients_fare(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [command] = re.findall(r"```bash\nfedsim (.*?)\n```", (DOCS / "clients.md").read_text())
    cli.app(shlex.split(command), standalone_mode=False)
    [block] = blocks("clients.md")
    names = {}
    exec(block, names)
    assert names["loaded"].rounds["personal_accuracy_worst_tenth"].notna().sum() == 4
    assert (tmp_path / "clients.png").exists()
