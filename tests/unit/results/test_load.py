"""Loading a part of what is stored."""

import contextlib

import numpy as np
import pytest

import results
from tests.unit.results.writing import add_rounds, write_run


def _changed(data):
    return data[:80] + b"?" + data[81:]


def three_runs(folder):
    for seed, (name, alpha) in enumerate((("run-a", 0.1), ("run-b", None), ("run-c", 10.0))):
        store = results.RunStore(str(folder), name)
        write_run(store, seed=seed, alpha=alpha, method="m" if seed else "other")
        add_rounds(store, range(2))


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"method": "m"}, ["run-b", "run-c"]),
        ({"method": "m", "seed": [0, 1]}, ["run-b"]),
        ({"alpha": None}, ["run-b"]),
        ({"alpha": {10, 0.1}}, ["run-a", "run-c"]),
        ({"seed": np.arange(2)}, ["run-a", "run-b"]),
        ({"run_id": "run-z"}, []),
    ],
)
def test_only_the_files_of_the_runs_asked_for_are_opened(tmp_path, where, expected):
    three_runs(tmp_path)
    for name in {"run-a", "run-b", "run-c"} - set(expected):
        for table in ("rounds", "clients"):
            for part in (tmp_path / name / table).iterdir():
                part.write_bytes(b"not Parquet")
    loaded = results.load(tmp_path, where=where)
    assert loaded.runs["run_id"].tolist() == expected
    assert loaded.rounds["run_id"].unique().tolist() == expected
    assert len(loaded.clients) == 4 * len(expected)


def test_only_the_columns_and_tables_asked_for_are_read(tmp_path):
    three_runs(tmp_path)
    loaded = results.load(tmp_path, where={"seed": 1}, columns=["accuracy", "train_loss"], tables=["rounds"])
    assert loaded.runs.columns.tolist() == ["run_id"]
    assert loaded.rounds.columns.tolist() == ["run_id", "round", "accuracy"]
    assert loaded.clients.columns.tolist() == ["run_id", "round", "client", "train_loss"]
    assert (len(loaded.runs), len(loaded.rounds), len(loaded.clients)) == (1, 2, 0)


def test_several_places_are_loaded_as_one(tmp_path):
    three_runs(tmp_path / "one")
    write_run(results.RunStore(str(tmp_path / "two"), "run-d"))
    loaded = results.load([tmp_path / "one", f"file://{tmp_path}/two"])
    assert loaded.runs["run_id"].tolist() == ["run-a", "run-b", "run-c", "run-d"]
    with pytest.raises(ValueError, match="several folders with 'run-a'"):
        results.load([tmp_path / "one", tmp_path / "one"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"where": {"metod": "m"}}, "where: found 'metod', allowed: run_id, status, method"),
        ({"where": {"seed": "zero"}}, "where.seed: found 'zero', allowed: values of the type int64"),
        ({"columns": ["acuracy"]}, "columns: found 'acuracy', allowed: run_id"),
        ({"tables": ["round"]}, "tables: found 'round', allowed: runs, rounds, clients"),
    ],
)
def test_what_does_not_exist_cannot_be_asked_for(tmp_path, arguments, message):
    three_runs(tmp_path)
    with pytest.raises(ValueError, match=message):
        results.load(tmp_path, **arguments)


@pytest.mark.parametrize("file", ["run.parquet", "rounds", "clients"])
@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-9], _changed])
def test_a_damaged_run_is_left_out_and_named(tmp_path, file, damage):
    three_runs(tmp_path)
    path = tmp_path / "run-b" / file
    path = next(path.iterdir()) if path.is_dir() else path
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=rf"{path}: damaged: .*; its run is left out"):
        loaded = results.load(tmp_path)
    assert loaded.runs["run_id"].tolist() == ["run-a", "run-c"]
    assert set(loaded.rounds["run_id"]) == set(loaded.clients["run_id"]) == {"run-a", "run-c"}
    assert len(loaded.damaged) == 1
    with pytest.raises(results.DamagedError, match=str(path)):
        results.load(tmp_path, on_damaged="raise")
    with pytest.raises(results.DamagedError, match=str(path)):
        results.load(tmp_path / "run-b")


def test_every_flipped_byte_of_the_row_of_a_run_is_found_or_harmless(tmp_path):
    store = results.RunStore(str(tmp_path), "run-a")
    write_run(store, seed=7, config="{}", final_accuracy=0.5)
    path = tmp_path / "run-a" / "run.parquet"
    data, expected = path.read_bytes(), store.read_run()
    for position in range(0, len(data), 7):
        path.write_bytes(data[:position] + bytes([data[position] ^ 16]) + data[position + 1 :])
        with contextlib.suppress(results.DamagedError):
            assert store.read_run() == expected
