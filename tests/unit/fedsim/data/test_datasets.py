"""Datasets read from files that the tests write, in the layout that each expects."""

import io
import json
import pickle
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
from PIL import Image

from fedsim.config import DataConfig
from fedsim.data import DATASETS, Decoder, load_dataset
from fedsim.data.images import ArrayImages, FileImages
from fedsim.data.torchvision_import import import_torchvision
from fedsim.errors import DataError

RNG = np.random.default_rng(0)


def pixels(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


def write_image(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def encoded(image, kind="PNG"):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.tobytes())


def cifar(root, monkeypatch, name, folder, files, key, names):
    source = getattr(import_torchvision().datasets, name)
    for attribute, chosen in (("train_list", files[:-1]), ("test_list", files[-1:])):
        monkeypatch.setattr(source, attribute, [[file, None] for file in chosen])  # our files have other checksums
    monkeypatch.setattr(source, "meta", {"filename": "meta", "key": names, "md5": None})
    (root / folder).mkdir()
    for file in files:
        (root / folder / file).write_bytes(pickle.dumps({"data": pixels(4, 3072), key: [0, 1, 2, 1]}))
    (root / folder / "meta").write_bytes(pickle.dumps({names: ["a", "b", "c"]}))


def cifar10(root, monkeypatch):
    files = ["data_batch_1", "data_batch_2", "test_batch"]
    cifar(root, monkeypatch, "CIFAR10", "cifar-10-batches-py", files, "labels", "label_names")


def cifar100(root, monkeypatch):
    cifar(root, monkeypatch, "CIFAR100", "cifar-100-python", ["train", "test"], "fine_labels", "fine_label_names")


def svhn(root, monkeypatch):
    source = import_torchvision().datasets.SVHN
    monkeypatch.setattr(source, "split_list", {k: ["", f"{k}_32x32.mat", None] for k in ("train", "test")})
    for split in ("train", "test"):
        scipy.io.savemat(
            root / f"{split}_32x32.mat", {"X": pixels(32, 32, 3, 6), "y": np.array([[10, 1, 2, 9, 5, 5]]).T}
        )


def mnist_like(folder, prefix):
    def write(root, monkeypatch):
        for split in prefix:
            write_idx(root / folder / f"{split}-images-idx3-ubyte", pixels(8, 28, 28))
            write_idx(root / folder / f"{split}-labels-idx1-ubyte", np.arange(8, dtype=np.uint8) % 3)

    return write


def eurosat(root, monkeypatch):
    for index in range(10):
        for name in ("Forest", "River"):
            write_image(root / "eurosat" / "2750" / name / f"{index}.png", pixels(64, 64, 3))
            (root / "eurosat" / "2750" / name / f"{index}.png").rename(root / f"eurosat/2750/{name}/{name}_{index}.jpg")


def food101(root, monkeypatch):
    for split in ("train", "test"):
        names = {name: [f"{name}/{split}{index}" for index in range(3)] for name in ("pie", "soup")}
        (root / "food-101" / "meta").mkdir(parents=True, exist_ok=True)
        (root / "food-101" / "meta" / f"{split}.json").write_text(json.dumps(names))
        for path in names["pie"] + names["soup"]:
            write_image(root / "food-101" / "images" / f"{path}.jpg", pixels(40, 60, 3))


def cars196(root, monkeypatch):
    base = root / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    scipy.io.savemat(base / "devkit" / "cars_meta.mat", {"class_names": np.array(["coupe", "van"], object)})
    for split, file in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        rows = np.array([(f"{i}.jpg", i % 2 + 1) for i in range(4)], [("fname", object), ("class", np.uint8)])
        scipy.io.savemat(base / file, {"annotations": rows})
        for index in range(4):
            write_image(base / f"cars_{split}" / f"{index}.jpg", pixels(50, 70, 3))


def parquet(root, monkeypatch):
    for split in ("train", "test"):
        rows = [{"bytes": encoded(Image.fromarray(pixels(20, 30, 3))), "path": None} for _ in range(6)]
        pq.write_table(pa.table({"image": rows, "label": [0, 1, 2, 0, 1, 2]}), root / f"{split}-00000-of-00001.parquet")


def image_folder(root, monkeypatch):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for index in range(3):
                write_image(root / split / name / f"{index}.png", pixels(20, 20, 3))


WRITERS = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "svhn": svhn,
    "emnist": mnist_like("EMNIST/raw", ("emnist-balanced-train", "emnist-balanced-test")),
    "fashion-mnist": mnist_like("FashionMNIST/raw", ("train", "t10k")),
    "eurosat": eurosat,
    "food101": food101,
    "cars196": cars196,
    "parquet": parquet,
    "image-folder": image_folder,
}


@pytest.mark.parametrize("name", [dataset.name for dataset in DATASETS])
def test_every_dataset_reads_its_own_layout(name, tmp_path, monkeypatch):
    WRITERS.get(name, lambda *_: None)(tmp_path, monkeypatch)
    dataset = load_dataset(DataConfig(name=name, path=str(tmp_path)))
    for split in (dataset.train, dataset.test):
        assert split.labels.dtype == np.int64
        assert len(split.images) == len(split) > 0
        assert 0 <= split.labels.min() <= split.labels.max() < len(dataset.classes)
        images, corrupt = Decoder(32, "bilinear", 2)(split.images, np.arange(len(split)))
        assert images.shape == (len(split), 32, 32, 3)
        assert images.dtype == np.uint8
        assert corrupt == []
        assert images.std() > 0
    assert dataset.train.images.fingerprint() != dataset.test.images.fingerprint()
    few = load_dataset(DataConfig(name=name, path=str(tmp_path), train_samples=3))
    assert len(few.train) == 3
    assert few.train.images.fingerprint() != dataset.train.images.fingerprint()


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_a_missing_dataset_says_where_it_looked_and_what_to_put_there(name, tmp_path):
    with pytest.raises(DataError, match=f"data.path: looked for .*{tmp_path}.*found.*put there: "):
        load_dataset(DataConfig(name=name, path=str(tmp_path / "none")))


def test_digits_splits_are_fixed_and_disjoint():
    dataset = load_dataset(DataConfig())
    assert (len(dataset.train), len(dataset.test)) == (1437, 360)
    train, test = ({raw.tobytes() for raw in s.images.read(np.arange(len(s)))} for s in (dataset.train, dataset.test))
    assert not train & test


def test_emnist_is_turned_upright(tmp_path, monkeypatch):
    WRITERS["emnist"](tmp_path, monkeypatch)
    stored = np.zeros((8, 28, 28), np.uint8)
    stored[:, 3, 20] = 255
    write_idx(tmp_path / "EMNIST/raw/emnist-balanced-train-images-idx3-ubyte", stored)
    [image] = load_dataset(DataConfig(name="emnist", path=str(tmp_path))).train.images.read(np.array([0]))
    assert image[20, 3] == 255


def test_hold_out_takes_a_fifth_of_each_class(tmp_path):
    for name in ("cat", "dog"):
        for index in range(20):
            write_image(tmp_path / name / f"{index}.png", pixels(8, 8, 3))
    dataset = load_dataset(DataConfig(name="image-folder", path=str(tmp_path)))
    assert (len(dataset.train), len(dataset.test)) == (32, 8)
    assert np.bincount(dataset.test.labels).tolist() == [4, 4]


def test_parquet_with_text_labels_plain_bytes_groups_and_many_row_groups(tmp_path):
    images = [encoded(Image.fromarray(np.full((9, 9), 10 * i, np.uint8))) for i in range(12)]
    labels = ["dog", "cat", "emu"] * 4
    table = pa.table({"img": images, "class": labels, "writer": ["w1", "w2"] * 6})
    pq.write_table(table, tmp_path / "all.parquet", row_group_size=5)
    dataset = load_dataset(DataConfig(name="parquet", path=str(tmp_path), group_column="writer"))
    assert list(dataset.classes) == ["cat", "dog", "emu"]
    assert len(dataset.train) + len(dataset.test) == 12
    assert set(dataset.train.groups) == {0, 1}
    decoder = Decoder(9, "bilinear", 1)
    for split in (dataset.train, dataset.test):
        values = decoder(split.images, np.arange(len(split)))[0][:, 0, 0, 0] // 10
        assert [labels[value] for value in values] == [dataset.classes[label] for label in split.labels]


def test_parquet_class_names_come_from_metadata_then_from_a_text_file(tmp_path):
    table = pa.table({"image": [encoded(Image.fromarray(pixels(4, 4, 3)))] * 3, "label": [0, 1, 1]})
    pq.write_table(table, tmp_path / "test.parquet")
    pq.write_table(table, tmp_path / "train.parquet")
    config = DataConfig(name="parquet", path=str(tmp_path))
    assert list(load_dataset(config).classes) == ["0", "1"]
    (tmp_path / "classes.txt").write_text("left\nright\n")
    assert list(load_dataset(config).classes) == ["left", "right"]
    info = {"info": {"features": {"label": {"names": ["no", "yes"]}}}}
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), tmp_path / "train.parquet")
    assert list(load_dataset(config).classes) == ["no", "yes"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"label_column": "kind"}, r"data.label_column: found kind, allowed: a column of .*: image, label"),
        ({"image_column": "photo"}, r"data.image_column: found photo, allowed: a column"),
        ({"group_column": "writer"}, r"partition.column: found writer, allowed: a column"),
    ],
)
def test_parquet_with_other_columns_says_which_there_are(tmp_path, config, message):
    parquet(tmp_path, None)
    with pytest.raises(DataError, match=message):
        load_dataset(DataConfig(name="parquet", path=str(tmp_path), **config))


def test_parquet_test_labels_must_be_known(tmp_path):
    image = encoded(Image.fromarray(pixels(4, 4, 3)))
    pq.write_table(pa.table({"image": [image], "label": ["a"]}), tmp_path / "train.parquet")
    pq.write_table(pa.table({"image": [image], "label": ["b"]}), tmp_path / "test.parquet")
    with pytest.raises(DataError, match=r"label: found 'b' in row 0"):
        load_dataset(DataConfig(name="parquet", path=str(tmp_path)))
    (tmp_path / "train.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"data.path: expected a Parquet file at"):
        load_dataset(DataConfig(name="parquet", path=str(tmp_path)))


def grey16():
    return Image.fromarray(np.full((20, 30), 32768, np.uint16))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGB", (30, 20), (1, 2, 3)), (1, 2, 3)),
        (Image.new("L", (20, 30), 77), (77, 77, 77)),
        (Image.new("1", (20, 30), 1), (255, 255, 255)),
        (Image.new("RGBA", (20, 20), (255, 0, 0, 255)), (255, 0, 0)),
        (Image.new("RGBA", (20, 20), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("LA", (20, 20), (9, 255)), (9, 9, 9)),
        (Image.new("P", (20, 20), 0), (0, 0, 0)),
        (grey16(), (128, 128, 128)),
    ],
    ids=["rgb", "grey", "bits", "rgba", "transparent", "grey-alpha", "palette", "16-bit"],
)
@pytest.mark.parametrize("size", [8, 40])
def test_images_of_any_mode_and_size_become_rgb(tmp_path, image, expected, size):
    (tmp_path / "image.png").write_bytes(encoded(image))
    decoded, corrupt = Decoder(size, "bicubic", 1)(FileImages(tmp_path, ["image.png"]), np.array([0]))
    assert corrupt == []
    assert decoded.shape == (1, size, size, 3)
    assert tuple(decoded[0, size // 2, size // 2]) == expected


def test_the_shorter_side_is_resized_and_the_longer_one_cut():
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    decoded, _ = Decoder(20, "bilinear", 1)(ArrayImages(wide[None]), np.array([0]))
    assert (decoded == 255).all()


def test_corrupt_images_are_named_and_become_grey(tmp_path):
    write_image(tmp_path / "good.png", pixels(8, 8, 3))
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    images = FileImages(tmp_path, ["good.png", "cut.png", "empty.png", "gone.png"])
    decoded, corrupt = Decoder(8, "bilinear", 2)(images, np.arange(4))
    assert corrupt == [str(tmp_path / name) for name in ("cut.png", "empty.png", "gone.png")]
    assert (decoded[1:] == 128).all()
    assert decoded[0].std() > 0


def test_file_fingerprints_change_with_the_files(tmp_path):
    write_image(tmp_path / "a.png", pixels(8, 8, 3))
    before = FileImages(tmp_path, ["a.png"]).fingerprint()
    assert FileImages(tmp_path, ["a.png"]).fingerprint() == before
    write_image(tmp_path / "a.png", pixels(9, 9, 3))
    assert FileImages(tmp_path, ["a.png"]).fingerprint() != before
