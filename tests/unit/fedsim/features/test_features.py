"""The store of prefix features: complete, shared, bounded, crash-safe."""

import errno
import fcntl
import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

import fedsim
from fedsim.config import load_config
from fedsim.data import Decoder, load_dataset
from fedsim.errors import DataError
from fedsim.features import BLOCK, FeatureStore, PrefixFeatures, open_store
from fedsim.models import build_model

ROWS, SHAPE = 5 * BLOCK + 7, (3, 2)
FLOAT = np.dtype(np.float32)


def values(rows):
    return np.multiply.outer(rows, np.arange(6).reshape(SHAPE)).astype(np.float32)


def store_in(folder, compute=lambda rows: (values(rows), [])):
    return FeatureStore(folder, ROWS, SHAPE, FLOAT, compute)


def build_in_a_process(folder, start, counts, die_after=None):
    start.wait()
    computed = []

    def compute(rows):
        if len(computed) == die_after:
            os.kill(os.getpid(), signal.SIGKILL)
        computed.append(len(rows))
        return values(rows), [f"image {rows[0]}"] if rows[0] == BLOCK else []

    built = store_in(folder, compute).build()
    counts.put((built.rows, built.corrupt))


@pytest.fixture
def context():
    return multiprocessing.get_context("spawn")


def test_processes_that_want_a_store_at_once_compute_each_row_once(tmp_path, context):
    start, counts = context.Event(), context.Queue()
    processes = [context.Process(target=build_in_a_process, args=(tmp_path / "k", start, counts)) for _ in range(3)]
    for process in processes:
        process.start()
    start.set()
    done = [counts.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert sum(rows for rows, _ in done) == ROWS
    assert [corrupt for _, corrupt in done] == [[f"image {BLOCK}"]] * 3
    rows = np.array([ROWS - 1, 0, BLOCK, 3])
    np.testing.assert_array_equal(store_in(tmp_path / "k").read(rows), values(rows))


def test_what_a_killed_process_leaves_is_finished_by_the_next(tmp_path, context):
    start, counts = context.Event(), context.Queue()
    start.set()
    process = context.Process(target=build_in_a_process, args=(tmp_path / "k", start, counts, 2))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    built = store_in(tmp_path / "k").build()
    assert built.rows == ROWS - 2 * BLOCK
    assert built.corrupt == [f"image {BLOCK}"]
    assert store_in(tmp_path / "k", lambda rows: pytest.fail("computed twice")).build().rows == 0


def test_room_is_made_by_deleting_what_was_opened_longest_ago_and_is_not_in_use(tmp_path):
    sizes = {}
    for age, name in enumerate(("new", "middle", "old")):
        store = store_in(tmp_path / name)
        store.build()
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
        sizes[name] = sum(path.stat().st_blocks * 512 for path in (tmp_path / name).iterdir())
        if name != "old":
            del store
    size = sizes["new"]

    def opened(key, limit):
        return open_store(tmp_path, key, ROWS, SHAPE, FLOAT, store._compute, int(limit * size))

    assert opened("next", 4) is not None
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"new", "middle", "old", "next"}
    assert opened("next", 3) is not None
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"new", "old", "next"}  # "old" is still open
    assert opened("other", 0.9) is None
    assert sum(path.stat().st_blocks * 512 for path in tmp_path.rglob("*")) <= 3.1 * size
    assert store.read(np.arange(3)).shape == (3, *SHAPE)


@pytest.mark.parametrize("damage", ["flip", "cut", "marks"])
def test_a_damaged_block_is_computed_again(tmp_path, damage):
    store_in(tmp_path / "k").build()
    path = tmp_path / "k" / ("done" if damage == "marks" else "features")
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[-100:]
    else:
        data[len(data) // 2] ^= 1
    path.write_bytes(data)
    computed = []

    def compute(rows):
        computed.append(rows[0] // BLOCK)
        return values(rows), []

    store = store_in(tmp_path / "k", compute)
    store.build()
    if damage != "marks" or not computed:
        with pytest.warns(UserWarning, match=r"block \d was damaged and is computed again"):
            found = store.read(np.arange(ROWS))
        np.testing.assert_array_equal(found, values(np.arange(ROWS)))
    np.testing.assert_array_equal(store_in(tmp_path / "k").read(np.arange(ROWS)), values(np.arange(ROWS)))
    assert len(computed) == 1


def test_a_full_disk_is_no_store_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert open_store(tmp_path, "k", ROWS, SHAPE, FLOAT, values, 10**9) is None
    assert not (tmp_path / "k").exists()
    computed = make_features(tmp_path)
    assert "do not fit into cluster.feature_store_gb=50, or on the disk" in computed.warnings[0]
    assert computed(np.arange(3)).shape[0] == 3


def hold_a_lock(path, held, over):
    with open(path, "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        held.set()
        over.wait()


def test_a_process_that_hangs_with_a_lock_is_not_waited_for_for_ever(tmp_path, context, monkeypatch):
    monkeypatch.setattr(fedsim.features._store, "PATIENCE_SECONDS", 0.2)
    store = store_in(tmp_path / "k")
    held, over = context.Event(), context.Event()
    other = context.Process(target=hold_a_lock, args=(tmp_path / "k" / "done", held, over))
    other.start()
    held.wait()
    with pytest.warns(UserWarning, match="another process has held block 0 for 0.2 s; it is computed here, too"):
        assert store.build().rows == ROWS
    np.testing.assert_array_equal(store.read(np.arange(ROWS)), values(np.arange(ROWS)))
    over.set()
    other.join()
    with open(tmp_path / "lock", "a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        with pytest.warns(UserWarning, match=r"lock: another process has held it for 0.2 s"):
            assert open_store(tmp_path, "next", ROWS, SHAPE, FLOAT, values, 10**9) is None


CONFIG = {"model": {"masked_blocks": 1}, "data": {"train_samples": 300}}


def make_features(tmp_path, *overrides, all_needed=True):
    config = load_config(CONFIG, [f"cluster.feature_store={tmp_path / 'store'}", *overrides])
    dataset = load_dataset(config.data, config.seed)
    model = build_model(config.model, len(dataset.classes))
    return PrefixFeatures(config, model, dataset.train.images, all_needed=all_needed)


def test_the_second_time_nothing_is_computed(tmp_path):
    first = make_features(tmp_path)
    assert first.prepare().rows == 300
    second = make_features(tmp_path)
    assert second.prepare().rows == 0
    assert second(np.array([5, 1])).shape == (2, 16, 128)
    assert (second(np.arange(300)) == first(np.arange(300))).all()


@pytest.mark.parametrize(
    "other",
    ["model.masked_blocks=2", "model.random_weights=true", "model.feature_dtype=float16", "data.name=synthetic"],
)
def test_what_features_follow_from_is_part_of_the_key(tmp_path, other):
    make_features(tmp_path).prepare()
    assert make_features(tmp_path, other).prepare().rows == 300


def test_half_precision_halves_the_store_and_rounds_to_three_digits(tmp_path):
    whole, half = (make_features(tmp_path / name, f"model.feature_dtype={name}") for name in ("float32", "float16"))
    for features in (whole, half):
        features.prepare()
    rows = np.arange(20)
    assert half(rows).dtype == whole(rows).dtype
    np.testing.assert_allclose(half(rows), whole(rows), rtol=1e-3, atol=1e-3)
    sizes = [sum(path.stat().st_size for path in (tmp_path / n).rglob("features")) for n in ("float32", "float16")]
    assert sizes[0] == 2 * sizes[1] == 300 * 16 * 128 * 4


def test_what_does_not_fit_is_computed_each_time_with_the_same_result(tmp_path):
    stored, computed = make_features(tmp_path), make_features(tmp_path, "cluster.feature_store_gb=0.0001")
    assert "computed anew in each round" in computed.warnings[0]
    stored.prepare()
    assert computed.prepare().rows == 0
    np.testing.assert_allclose(computed(np.arange(9)), stored(np.arange(9)), atol=1e-5)


def test_where_few_take_part_only_what_is_needed_is_computed_the_same_whoever_needs_what(tmp_path, monkeypatch):
    computed = []
    decoder = Decoder.__call__

    def counting(self, images, rows):
        computed.extend(rows.tolist())
        return decoder(self, images, rows)

    monkeypatch.setattr(Decoder, "__call__", counting)
    first, second = (
        make_features(tmp_path / name, "participation=0.1", all_needed=False) for name in ("first", "second")
    )
    assert first.prepare().rows == second.prepare().rows == 0
    one_by_one = [first(np.array([row])) for row in (250, 7, 40, 7)]
    assert computed == [250, 7, 40]
    second.complete(np.arange(100))  # in two passes
    assert computed[3:] == list(range(100))
    together = second(np.array([250, 7, 40, 7]))
    assert (torch.cat(one_by_one) == together).all()
    again = make_features(tmp_path / "first", "participation=0.1", all_needed=False)
    assert (again(np.array([7, 250])) == together[[1, 0]]).all()
    assert len(computed) == 3 + 100 + 1


@pytest.mark.parametrize("store", [50, 1e-7, 0])
@pytest.mark.parametrize("all_needed", [True, False])
def test_corrupt_images_are_counted_and_above_a_limit_an_error(tmp_path, store, all_needed):
    for index in range(10):
        path = tmp_path / "data" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 20 * index).save(path)
    (tmp_path / "data" / "a" / "4.png").write_bytes(b"none")
    overrides = ["data.name=image-folder", f"data.path={tmp_path / 'data'}", f"cluster.feature_store_gb={store}"]
    overrides += ["participation=0.1"]

    def read(limit):
        features = make_features(tmp_path, *overrides, f"data.max_corrupt={limit}", all_needed=all_needed)
        features.prepare()
        features(np.arange(8))
        return features.warnings[-1]

    with pytest.raises(DataError, match=r"data.max_corrupt: found 1 of 8 images .*4.png.*allowed: a share of 0.1"):
        read(0.1)
    decoded = [path for path in (tmp_path / "store").rglob("features") if path.parent.name.endswith("-decoded")]
    assert [path.stat().st_size for path in decoded] == ([8] if store == 1e-7 else [])
    assert "1 of 8 images cannot be decoded and count as plain grey" in read(0.2)
