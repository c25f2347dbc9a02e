"""The index beside many finished runs."""

import os
import shutil
import warnings

import pandas as pd
import pytest

import results
from results import folders
from tests.unit.results.writing import add_rounds, write_run

TABLES = ("runs", "rounds", "clients")


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Five finished runs, the smallest number that is worth an index here."""
    monkeypatch.setattr(folders, "_INDEXED", 5)
    monkeypatch.setattr(folders, "_SETTLED_SECONDS", -1)
    for seed in range(5):
        store = results.RunStore(str(tmp_path), f"run-{seed}")
        write_run(store, seed=seed, status="finished")
        add_rounds(store, range(3))
    return tmp_path


def opened(monkeypatch):
    """Files that are read from now on, but for those of the index."""
    names = []
    read = results.locations.read

    def spy(filesystem, path):
        names.append(path)
        return read(filesystem, path)

    monkeypatch.setattr("results.locations.read", spy)
    return lambda: [name for name in names if "/.index/" not in name]


def assert_same(found, expected):
    for table in TABLES:
        pd.testing.assert_frame_equal(getattr(found, table), getattr(expected, table))


def test_finished_runs_are_not_opened_again(runs, monkeypatch):
    first = results.load(runs)
    names = opened(monkeypatch)
    assert_same(results.load(runs), first)
    assert names() == []
    some = results.load(runs, where={"seed": [1, 3]}, columns=["accuracy"], tables=["rounds"])
    assert names() == []
    assert some.rounds.columns.tolist() == ["run_id", "round", "accuracy"]
    assert some.rounds["run_id"].unique().tolist() == ["run-1", "run-3"]


def test_what_has_changed_since_is_read_anew(runs, monkeypatch):
    results.load(runs)
    shutil.rmtree(runs / "run-0")
    write_run(results.RunStore(str(runs), "run-2"), seed=22, status="finished")
    store = results.RunStore(str(runs), "run-25")
    write_run(store, seed=25)
    add_rounds(store, range(2))
    names = opened(monkeypatch)
    found = results.load(runs)
    assert {name.split("/")[-2] for name in names() if name.endswith("run.parquet")} == {"run-2", "run-25"}
    assert found.runs["run_id"].tolist() == ["run-1", "run-2", "run-25", "run-3", "run-4"]
    assert found.runs["seed"].tolist() == [1, 22, 25, 3, 4]
    shutil.rmtree(runs / ".index")
    assert_same(found, results.load(runs))


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: b"", lambda data: data[:99] + b"?" + data[100:]]
)
@pytest.mark.parametrize("table", TABLES)
def test_a_damaged_index_is_left_aside(runs, damage, table):
    first = results.load(runs)
    file = runs / ".index" / f"{table}.parquet"
    file.write_bytes(damage(file.read_bytes()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(results.load(runs), first)


def test_runs_that_go_on_or_have_just_ended_are_not_in_the_index(runs, monkeypatch):
    monkeypatch.setattr(folders, "_SETTLED_SECONDS", 60)
    results.load(runs)
    assert not (runs / ".index").exists()
    for seed in range(5):
        os.utime(runs / f"run-{seed}" / "run.parquet", (1, 1))
    write_run(results.RunStore(str(runs), "run-4"), seed=4, status="running")
    results.load(runs)
    assert not (runs / ".index").exists()


def test_a_folder_that_cannot_be_written_has_no_index(runs, monkeypatch):
    monkeypatch.setattr("results.locations.write", lambda *arguments: (_ for _ in ()).throw(PermissionError()))
    assert len(results.load(runs).runs) == 5
    assert not (runs / ".index").exists()


def test_an_object_store_has_one_too(object_store, monkeypatch):
    monkeypatch.setattr(folders, "_INDEXED", 2)
    monkeypatch.setattr(folders, "_SETTLED_SECONDS", -100)
    for seed in range(2):
        store = results.RunStore(f"{object_store}/indexed", f"run-{seed}")
        write_run(store, seed=seed, status="finished")
        add_rounds(store, range(2))
    first = results.load(f"{object_store}/indexed")
    names = opened(monkeypatch)
    assert_same(results.load(f"{object_store}/indexed"), first)
    assert names() == []


def test_files_without_a_checksum_are_never_in_the_index(runs):
    for seed in range(5):
        for part in (runs / f"run-{seed}" / "rounds").iterdir():
            part.rename(part.with_name(f"{part.name.split('.')[0]}.parquet"))  # as version 0.1 names them
    assert len(results.load(runs).rounds) == 15
    assert not (runs / ".index").exists()
