"""Datasets read from files that the tests write, in the layout that each expects."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fedsim import ConfigError
from fedsim.data import DATASETS, Decoder
from fedsim.errors import DataError
from fedsim.testing import DatasetContract
from tests.unit.fedsim.data.layouts import WRITERS, encoded, load, parquet, pixels, write_idx, write_image


class TestDatasets(DatasetContract):
    @pytest.fixture(params=[dataset.name for dataset in DATASETS if ":" not in dataset.name])
    def params(self, request, tmp_path, monkeypatch):
        write = WRITERS.get(request.param)
        if write is None:
            return DATASETS.get(request.param).Params(name=request.param)
        write(tmp_path, monkeypatch)
        return DATASETS.get(request.param).Params(name=request.param, path=str(tmp_path))


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_a_missing_dataset_says_where_it_looked_and_what_to_put_there(name, tmp_path):
    with pytest.raises(DataError, match=f"data.path: looked for .*{tmp_path}.*found.*put there: "):
        load(name, path=str(tmp_path / "none"))


def test_digits_splits_are_fixed_and_disjoint():
    dataset = load("digits")
    assert (len(dataset.train), len(dataset.test)) == (1437, 360)
    train, test = ({raw.tobytes() for raw in s.images.read(np.arange(len(s)))} for s in (dataset.train, dataset.test))
    assert not train & test


def test_digits_are_those_of_scikit_learn():
    bunch, dataset = load_digits(), load("digits")
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    parts = train_test_split(images, bunch.target, test_size=0.2, random_state=0, stratify=bunch.target)
    for split, pixels_n, labels_n in zip((dataset.train, dataset.test), parts[:2], parts[2:], strict=True):
        assert np.array_equal(np.stack(split.images.read(np.arange(len(split)))), pixels_n)
        assert np.array_equal(split.labels, labels_n)
        assert split.labels.dtype == np.int64


def test_emnist_is_turned_upright(tmp_path, monkeypatch):
    WRITERS["emnist"](tmp_path, monkeypatch)
    stored = np.zeros((8, 28, 28), np.uint8)
    stored[:, 3, 20] = 255
    write_idx(tmp_path / "EMNIST/raw/emnist-balanced-train-images-idx3-ubyte", stored)
    [image] = load("emnist", path=str(tmp_path)).train.images.read(np.array([0]))
    assert image[20, 3] == 255


def test_hold_out_takes_a_fifth_of_each_class(tmp_path):
    for name in ("cat", "dog"):
        for index in range(20):
            write_image(tmp_path / name / f"{index}.png", pixels(8, 8, 3))
    dataset = load("image-folder", path=str(tmp_path))
    assert (len(dataset.train), len(dataset.test)) == (32, 8)
    assert np.bincount(dataset.test.labels).tolist() == [4, 4]


def test_parquet_with_text_labels_plain_bytes_groups_and_many_row_groups(tmp_path):
    images = [encoded(Image.fromarray(np.full((9, 9), 10 * i, np.uint8))) for i in range(12)]
    labels = ["dog", "cat", "emu"] * 4
    table = pa.table({"img": images, "class": labels, "writer": ["w1", "w2"] * 6})
    pq.write_table(table, tmp_path / "all.parquet", row_group_size=5)
    dataset = load("parquet", path=str(tmp_path))
    assert list(dataset.classes) == ["cat", "dog", "emu"]
    assert len(dataset.train) + len(dataset.test) == 12
    assert set(dataset.train.column("writer")) == {0, 1}
    decoder = Decoder(9, "bilinear", 1)
    for split in (dataset.train, dataset.test):
        values = decoder(split.images, np.arange(len(split)))[0][:, 0, 0, 0] // 10
        assert [labels[value] for value in values] == [dataset.classes[label] for label in split.labels]


def test_parquet_class_names_come_from_metadata_then_from_a_text_file(tmp_path):
    table = pa.table({"image": [encoded(Image.fromarray(pixels(4, 4, 3)))] * 3, "label": [0, 1, 1]})
    pq.write_table(table, tmp_path / "test.parquet")
    pq.write_table(table, tmp_path / "train.parquet")
    assert list(load("parquet", path=str(tmp_path)).classes) == ["0", "1"]
    (tmp_path / "classes.txt").write_text("left\nright\n")
    assert list(load("parquet", path=str(tmp_path)).classes) == ["left", "right"]
    info = {"info": {"features": {"label": {"names": ["no", "yes"]}}}}
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), tmp_path / "train.parquet")
    assert list(load("parquet", path=str(tmp_path)).classes) == ["no", "yes"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"label_column": "kind"}, r"data.label_column: found kind, allowed: a column of .*: image, label"),
        ({}, r"partition.column: found writer, allowed: a column of .*: image, label"),
        ({"image_column": "photo"}, r"data.image_column: found photo, allowed: a column"),
    ],
)
def test_parquet_with_other_columns_says_which_there_are(tmp_path, config, message):
    parquet(tmp_path, None)
    with pytest.raises(DataError, match=message):
        load("parquet", path=str(tmp_path), **config).train.column("writer")


def test_parquet_test_labels_must_be_known(tmp_path):
    image = encoded(Image.fromarray(pixels(4, 4, 3)))
    pq.write_table(pa.table({"image": [image], "label": ["a"]}), tmp_path / "train.parquet")
    pq.write_table(pa.table({"image": [image], "label": ["b"]}), tmp_path / "test.parquet")
    with pytest.raises(DataError, match=r"label: found 'b' in row 0"):
        load("parquet", path=str(tmp_path))
    (tmp_path / "train.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"data.path: expected a Parquet file at"):
        load("parquet", path=str(tmp_path))


def test_columns_are_those_of_a_datasets_files_alone():
    with pytest.raises(ConfigError, match=r"partition.column: found 'writer', allowed: none, as this dataset has no"):
        load("digits").train.column("writer")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0], [1]], r"label: found labels of the type list<.*> in .*train\.parquet, allowed: whole numbers or text"),
        ([0.5, 1.0], r"label: found labels of the type double in .*train\.parquet"),
        ([0, 10**12], r"label: found label 1000000000000 in row 1 of .*, allowed: 0 to 99,999"),
        ([-1, 0], r"label: found -1 in row 0 of "),
        ([None, 0], r"label: found 1 empty values in "),
        (pa.array([], pa.int64()), r"data\.path: found no rows in .*train\.parquet"),
    ],
)
def test_labels_of_other_kinds_are_refused_by_row_and_file(tmp_path, labels, message):
    images = [encoded(Image.fromarray(pixels(4, 4, 3)))] * len(labels)
    table = pa.table({"image": pa.array(images, pa.binary()), "label": labels})
    for name in ("train", "test"):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match=message):
        load("parquet", path=str(tmp_path))


@pytest.mark.parametrize("metadata", ["{", "[1]", '{"info": []}', '{"info": {"features": {"label": 3}}}'])
def test_damaged_metadata_is_named(tmp_path, metadata):
    table = pa.table({"image": [encoded(Image.fromarray(pixels(4, 4, 3)))] * 2, "label": [0, 1]})
    for name in ("train", "test"):
        pq.write_table(table.replace_schema_metadata({"huggingface": metadata}), tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match=r"data.path: expected Hugging Face metadata in .*train\.parquet, found none"):
        load("parquet", path=str(tmp_path))


@pytest.mark.parametrize("kind", ["fifo", "dead link", "folder"])
def test_what_is_no_file_is_named(tmp_path, kind):
    for index in range(4):
        write_image(tmp_path / "a" / f"{index}.png", pixels(4, 4, 3))
    odd = tmp_path / "a" / "odd.png"
    if kind == "folder":
        odd.mkdir()
        assert len(load("image-folder", path=str(tmp_path)).train) == 3
        return
    if kind == "fifo":
        os.mkfifo(odd)
    else:
        odd.symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"data.path: found .*odd\.png, no file and no link to one"):
        load("image-folder", path=str(tmp_path))
