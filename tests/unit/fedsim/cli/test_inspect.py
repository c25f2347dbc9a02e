"""Commands on what is stored, on a disk and in an object store."""

import json
import uuid
from pathlib import Path

import matplotlib.image
import pytest
import yaml
from typer import Abort

from fedsim.config import load_config
from tests.unit.fedsim.cli.conftest import write_runs


def test_ls_shows_what_varies_and_what_came_of_it(command, runs):
    code, shown, _ = command("ls", runs)
    heading, *lines, count = shown.splitlines()
    assert (code, count) == (0, "3 runs")
    assert [line.split()[0] for line in lines] == ["run-a", "run-b", "run-c"]  # by their start
    assert "train.lr" in heading
    assert "dataset" not in heading
    assert lines[0].split()[1:4] == ["finished", "deltamask", "0.1"]
    assert "2.0 kB" in lines[0]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["status=finished"], ["run-a", "run-b"]),
        (["train.lr=0.2"], ["run-b", "run-c"]),
        (["train.lr=0.2", "status!=failed"], ["run-b"]),
        (["seed=0,2"], ["run-a", "run-c"]),
        (["final_accuracy>=0.6", "--sort", "-final_accuracy"], ["run-c", "run-b"]),
        (["error=null"], ["run-a", "run-b"]),
    ],
)
def test_ls_takes_conditions_and_gives_json(command, runs, words, expected):
    code, shown, _ = command("ls", runs, *words, "--columns", "train.lr,seed", "--json")
    assert code == 0
    found = json.loads(shown)
    assert [row["run_id"] for row in found] == expected
    assert set(found[0]) == {"run_id", "train.lr", "seed"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sttus=failed"], "sttus: found no such name; did you mean 'status'?"),
        (["method>3"], "method: found >3, allowed: = and !=, or numbers"),
        (["status=stopped"], "conditions: none of 3 runs meets status=stopped"),
        (["--columns", "lr"], "lr: found no such name"),
        (["--sort", "accurcy"], "accurcy: found no such name; did you mean"),
    ],
)
def test_ls_names_what_is_wrong(command, runs, words, message):
    code, _, error = command("ls", runs, *words)
    assert code == 2
    assert message in error


def test_show_has_configuration_rounds_and_the_whole_error(command, runs):
    code, shown, _ = command("show", f"{runs}/run-c", "--rounds", "2")
    assert code == 0
    assert "File 'mine.py', line 7" in shown
    assert "lr: 0.2" in shown
    assert [line.split()[0] for line in shown.splitlines() if "0.700" in line][-2:] == ["1", "2"]
    content = json.loads(command("show", f"{runs}/run-a", "--json")[1])
    assert content["config"]["train"] == {"lr": 0.1}
    assert len(content["rounds_table"]) == 3
    assert "found a folder of 3 runs" in command("show", runs)[2]


def test_logs_prints_all_that_was_kept(command, runs):
    assert "nothing was printed and nothing failed" in command("logs", f"{runs}/run-a")[1]
    Path(runs, "run-c", "log.txt").write_text("[now] client 3 | hello [x]\n")
    assert "client 3 | hello [x]" in command("logs", f"{runs}/run-c")[1]
    assert "found a folder of 3 runs" in command("logs", runs)[2]


def test_compare_shows_what_differs_and_draws_it(command, runs, tmp_path):
    code, shown, _ = command("compare", f"{runs}/run-a", f"{runs}/run-b", "--output", str(tmp_path / "both.png"))
    assert code == 0
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.strip()}
    assert rows["run-a"] == ["run-b"]
    assert rows["train.lr"] == ["0.1", "0.2"]
    assert rows["final_accuracy"] == ["0.500", "0.600"]
    assert "method.name" not in rows
    assert matplotlib.image.imread(tmp_path / "both.png").std() > 0
    assert "found 1 run, allowed: at least two" in command("compare", f"{runs}/run-a")[2]


def test_rm_asks_and_can_only_look(command, runs, monkeypatch):
    assert "run-c" in command("rm", runs, "status=failed", "--dry-run")[1]
    monkeypatch.setattr("typer.confirm", lambda text, abort: (_ for _ in ()).throw(Abort()))
    with pytest.raises(Abort):
        command("rm", runs, "status=failed")
    assert command("ls", runs)[1].endswith("3 runs\n")
    assert "1 run deleted" in command("rm", runs, "status=failed", "--yes")[1]
    assert "no run meets" in command("rm", runs, "status=failed", "--yes")[1]
    assert command("ls", runs)[1].endswith("2 runs\n")
    assert "1 run deleted" in command("rm", f"{runs}/run-b", "-y")[1]
    assert command("ls", runs)[1].endswith("1 run\n")


def test_all_of_it_takes_uris(command, object_store, tmp_path):
    from pyarrow import fs

    place = write_runs(f"{object_store}/{uuid.uuid4()}")
    store, path = fs.FileSystem.from_uri(place)
    assert command("ls", place, "status=failed")[1].split("\n")[1].startswith("run-c")
    assert "lr: 0.1" in command("show", f"{place}/run-a")[1]
    assert command("compare", place, "--output", f"{place}/compare.png")[0] == 0
    assert store.open_input_stream(f"{path}/compare.png").read().startswith(b"\x89PNG")
    assert command("report", place)[1].strip() == f"{place}/report/index.html"
    assert b"run-a" in store.open_input_stream(f"{path}/report/index.html").read()
    assert "1 run deleted" in command("rm", f"{place}/run-b", "--yes")[1]
    with store.open_output_stream(f"{path}/experiment.yaml") as stream:
        stream.write(yaml.safe_dump({"rounds": 7}).encode())
    assert load_config(f"{place}/experiment.yaml").rounds == 7
    assert "expected a YAML file" in command("config", f"{place}/nothing.yaml")[2]
