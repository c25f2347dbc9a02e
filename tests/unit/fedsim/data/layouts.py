"""Writes small datasets in the layout that each expects."""

import io
import json
import pickle
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io
from PIL import Image

from fedsim.data import DATASETS, load_dataset
from fedsim.data.torchvision_import import import_torchvision

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


def load(name, **keys):
    """A dataset by its name and the keys of its group."""
    return load_dataset(DATASETS.get(name).Params(name=name, **keys), seed=0)
