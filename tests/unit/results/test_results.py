import shutil
import subprocess
import sys

import matplotlib.image
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import results
from results import figures
from results.schema import CLIENTS, ROUNDS, RUNS
from results.store import part_files


@pytest.fixture
def store(tmp_path):
    return results.RunStore(str(tmp_path), "run-a")


def add_rounds(store, rounds, value=0.0):
    for index in rounds:
        base = {"run_id": store.run_id, "round": index}
        store.append("clients", index, [base | {"client": k, "train_loss": value} for k in range(2)])
        store.append("rounds", index, [base | {"accuracy": value, "accuracy_expected": value, "uplink_bpp": 0.1}])


def write_run(store, **columns):
    store.write_run({"run_id": store.run_id, "status": "running", "method": "m", "dataset": "d", "seed": 0} | columns)


def test_what_is_written_is_loaded(store, tmp_path):
    write_run(store, final_accuracy=0.5, config="{}")
    add_rounds(store, range(3))
    for path in (tmp_path, tmp_path / "run-a"):
        loaded = results.load(path)
        assert loaded.runs["final_accuracy"].tolist() == [0.5]
        assert loaded.rounds["round"].tolist() == [0, 1, 2]
        assert loaded.clients["client"].tolist() == [0, 1] * 3
        for frame, schema in ((loaded.runs, RUNS), (loaded.rounds, ROUNDS), (loaded.clients, CLIENTS)):
            assert frame.columns.tolist() == schema.names


def test_every_column_is_described():
    assert all(field.metadata[b"description"] for schema in (RUNS, ROUNDS, CLIENTS) for field in schema)


def test_unknown_columns_are_refused(store):
    with pytest.raises(ValueError, match="columns: found \\['acuracy'\\]"):
        store.append("rounds", 0, [{"acuracy": 1.0}])


operations = st.lists(
    st.one_of(st.just(("append",)), st.just(("compact",)), st.tuples(st.just("truncate"), st.integers(0, 8))),
    max_size=15,
)


@given(operations)
def test_any_sequence_of_writes_keeps_each_round_once(tmp_path_factory, steps):
    """Append (again), compact and truncate against a dict; rounds are appended in order, as a run does."""
    path = tmp_path_factory.mktemp("store")
    store = results.RunStore(str(path), "run-a")
    write_run(store)
    expected: dict[int, float] = {}
    for number, step in enumerate(steps):
        if step[0] == "append":
            index = len(expected)
            add_rounds(store, [index], float(number))
            expected[index] = float(number)
        elif step[0] == "compact":
            store.compact()
        else:
            store.truncate(step[1])
            expected = {index: value for index, value in expected.items() if index < step[1]}
        rounds = results.load(path).rounds
        assert dict(zip(rounds["round"], rounds["accuracy"], strict=True)) == expected
        assert len(rounds) == len(expected)


def test_a_crash_while_compacting_doubles_nothing(store, tmp_path):
    write_run(store)
    add_rounds(store, range(4))
    folder = tmp_path / "run-a" / "rounds"
    parts = {part.name: part.read_bytes() for part in folder.iterdir()}
    store.compact()
    assert [part.name for part in folder.iterdir()] == ["000000-000003.parquet"]
    for name, data in parts.items():  # as if the process had died before it removed them
        (folder / name).write_bytes(data)
    assert results.load(tmp_path).rounds["round"].tolist() == [0, 1, 2, 3]
    store.compact()
    assert [part.name for part in folder.iterdir()] == ["000000-000003.parquet"]


def test_unfinished_files_are_not_read(store, tmp_path):
    write_run(store)
    add_rounds(store, [0])
    (tmp_path / "run-a" / ".rounds-000001-000001.parquet.tmp").write_bytes(b"half a file")
    (tmp_path / "run-a" / "rounds" / ".000001-000001.parquet.tmp").write_bytes(b"half a file")
    assert results.load(tmp_path).rounds["round"].tolist() == [0]


def test_a_reader_never_sees_half_a_file(tmp_path):
    """Another process replaces a row over and over while this one reads it."""
    script = (
        "import sys, results\n"
        "store = results.RunStore(sys.argv[1], 'run-a')\n"
        "for i in range(300): store.write_run({'run_id': 'run-a', 'config': str(i) * 10_000})\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) as writer:
        reads = 0
        while writer.poll() is None:
            row = results.RunStore(str(tmp_path), "run-a").read_run()
            reads += row is not None
            assert row is None or len(set(row["config"])) <= 3
        assert writer.returncode == 0
    assert reads > 0


def test_several_runs_and_stray_folders(tmp_path):
    for name in ("run-b", "run-a"):
        store = results.RunStore(str(tmp_path), name)
        write_run(store)
        add_rounds(store, range(2))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes.txt").write_text("not a run")
    loaded = results.load(tmp_path)
    assert loaded.runs["run_id"].tolist() == ["run-a", "run-b"]
    assert loaded.rounds["run_id"].tolist() == ["run-a"] * 2 + ["run-b"] * 2


def test_a_reader_does_not_trip_over_files_that_are_being_joined(tmp_path):
    """Another process appends and compacts over and over while this one reads."""
    script = (
        "import sys, results\n"
        "store = results.RunStore(sys.argv[1], 'run-a')\n"
        "store.write_run({'run_id': 'run-a'})\n"
        "for i in range(60):\n"
        "    for t in (2 * i, 2 * i + 1): store.append('rounds', t, [{'run_id': 'run-a', 'round': t}])\n"
        "    store.compact()\n"
    )
    seen = 0
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) as writer:
        while writer.poll() is None:
            if (tmp_path / "run-a" / "run.parquet").exists():
                rounds = results.load(tmp_path).rounds["round"].tolist()
                assert rounds == list(range(len(rounds)))
                assert len(rounds) >= seen
                seen = len(rounds)
        assert writer.returncode == 0
    assert len(results.load(tmp_path).rounds) == 120


def test_a_run_has_one_writer_at_a_time(store, tmp_path):
    write_run(store)
    store.lock()
    script = "import sys, results; results.RunStore(sys.argv[1], 'run-a').lock()"
    refused = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert "another process is writing this run" in refused.stderr
    store.unlock()
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)


def test_copies_of_a_run_are_not_counted_twice(store, tmp_path):
    write_run(store)
    shutil.copytree(tmp_path / "run-a", tmp_path / "backup")
    with pytest.raises(ValueError, match="several folders with 'run-a'"):
        results.load(tmp_path)


def test_uris_with_options_name_one_run(tmp_path):
    for name in ("run-a", "run-b"):
        store = results.RunStore(f"file://{tmp_path}?x=1", name)
        write_run(store)
        add_rounds(store, range(2))
        assert results.load(store.location).runs["run_id"].tolist() == [name]


def test_nothing_to_load_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a run or a folder of runs"):
        results.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="found 'ftp://x/y', allowed: a local path"):
        results.load("ftp://x/y")


def test_rows_are_kept_by_value_of_their_columns(store, tmp_path):
    write_run(store, started_at=pd.Timestamp("2026-01-02 03:04:05", tz="UTC"))
    assert results.load(tmp_path).runs["started_at"][0] == pd.Timestamp("2026-01-02 03:04:05", tz="UTC")
    assert store.read_run()["status"] == "running"
    assert results.RunStore(str(tmp_path), "other").read_run() is None


def test_deleted_runs_are_gone(store, tmp_path):
    write_run(store)
    store.delete()
    store.delete()
    assert list(tmp_path.iterdir()) == []


def test_compacted_files_hold_the_schema(store, tmp_path):
    write_run(store)
    add_rounds(store, range(3))
    store.compact()
    [(first, last, path)] = part_files(store._fs, store.path, "clients")
    assert (first, last) == (0, 2)
    assert pq.read_schema(path).names == CLIENTS.names


def test_figure_is_a_readable_png(store, tmp_path):
    write_run(store)
    add_rounds(store, range(3), 0.5)
    figure = figures.accuracy_and_bpp(results.load(tmp_path))
    path = figures.save(figure, tmp_path / "plots" / "figure.png")
    height, width, _ = matplotlib.image.imread(path).shape
    assert width > height > 400
    accuracy, bpp = figure.axes
    assert accuracy.lines[0].get_ydata().tolist() == [0.5] * 3
    assert bpp.lines[0].get_xdata().tolist() == [1, 2]  # without the head's round


@pytest.mark.parametrize(("clients", "classes"), [(10, 10), (5000, 101)])
def test_the_picture_of_a_partition_is_a_readable_png(tmp_path, clients, classes):
    counts = np.random.default_rng(0).integers(0, 9, (clients, classes))
    names = [f"class {index}" for index in range(classes)]
    path = figures.save(figures.label_counts(counts, names, "some split"), tmp_path / "partition.png")
    height, width = matplotlib.image.imread(path).shape[:2]
    assert width == 9 * 150
    assert 400 < height < 1200


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
