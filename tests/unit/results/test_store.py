"""The store of a run: each row once, whatever happens while it is written or read."""

import errno
import fcntl
import shutil
import subprocess
import sys

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import results
from results.schema import CLIENTS, ROUNDS, RUNS
from tests.unit.results.writing import add_rounds, write_run


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
        store.append("rounds", 0, 0, [{"acuracy": 1.0}])


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
    assert [(part.first, part.last) for part in store.parts("rounds", covered=True)] == [(0, 3)]
    for name, data in parts.items():  # as if the process had died before it removed them
        (folder / name).write_bytes(data)
    assert results.load(tmp_path).rounds["round"].tolist() == [0, 1, 2, 3]
    store.compact()
    assert [(part.first, part.last) for part in store.parts("rounds", covered=True)] == [(0, 3)]


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
        "    for t in (2 * i, 2 * i + 1): store.append('rounds', t, t, [{'run_id': 'run-a', 'round': t}])\n"
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
    [part] = store.parts("clients")
    assert (part.first, part.last) == (0, 2)
    assert pq.read_schema(part.path).names == CLIENTS.names


def test_a_filesystem_without_locks_is_no_second_writer(store, tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    later = results.RunStore(str(tmp_path), "run-a")
    for one in (store, later):
        with pytest.warns(UserWarning, match=r"its filesystem has no locks.*the later one wins"):
            one.lock()
    with pytest.raises(results.OwnershipError, match="took it over"):
        write_run(store)
    write_run(later)
