"""Hugging Face datasets, from folders that the package datasets itself wrote; nothing is fetched."""

import datasets
import numpy as np
import pytest
from PIL import Image

from fedsim.config import load_config
from fedsim.data import Decoder, load_dataset
from fedsim.data.partition import make_partition
from fedsim.errors import ConfigError, DataError
from fedsim.testing import DatasetContract
from tests.unit.fedsim.data.layouts import encoded, pixels

FEATURES = {
    "image": datasets.Image(),
    "label": datasets.ClassLabel(names=["cat", "dog", "emu"]),
    "kind": datasets.Value("string"),
    "writer": datasets.Value("string"),
}


@pytest.fixture(autouse=True)
def no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for constants in ("datasets.config", "huggingface_hub.constants"):
        monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def table(count, **changed):
    columns = {
        "image": [Image.fromarray(pixels(9, 7, 3)) for _ in range(count)],
        "label": [index % 3 for index in range(count)],
        "kind": [("gnu", "ant")[index % 2] for index in range(count)],
        "writer": [f"w{index // 2 % 3}" for index in range(count)],
    }
    return datasets.Dataset.from_dict(columns | changed, datasets.Features(FEATURES))


def saved(folder, **splits):
    datasets.DatasetDict(splits).save_to_disk(folder)
    return folder


def hub_layout(folder, **splits):
    (folder / "data").mkdir(parents=True)
    for name, split in splits.items():
        split.to_parquet(folder / "data" / f"{name}-00000-of-00001.parquet")
    return folder


def image_folder(folder, **splits):
    for name, split in splits.items():
        for index, row in enumerate(split):
            file = folder / name / f"class {row['label']}" / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            row["image"].save(file)
    return folder


def settings(folder, *overrides):
    return load_config({}, [f"data.name=hf:{folder}", *overrides]).data


def load(folder, *overrides):
    return load_dataset(settings(folder, *overrides), seed=0)


class TestHuggingFace(DatasetContract):
    @pytest.fixture(params=[saved, hub_layout, image_folder])
    def params(self, request, tmp_path):
        return settings(request.param(tmp_path / "data", train=table(9), test=table(6)))


def test_images_labels_and_classes_are_those_that_were_written(tmp_path):
    images = [Image.fromarray(pixels(8, 8, 3)) for _ in range(6)]
    dataset = load(saved(tmp_path / "d", train=table(6, image=images), test=table(3)), "data.validation=0")
    assert list(dataset.classes) == ["cat", "dog", "emu"]
    assert dataset.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    decoded, corrupt = Decoder(8, "bilinear", 1)(dataset.train.images, np.arange(6))
    assert corrupt == []
    assert np.array_equal(decoded, np.stack([np.asarray(image) for image in images]))


def test_labels_of_text_and_splits_and_columns_by_name(tmp_path):
    folder = saved(tmp_path / "d", small=table(6), valid=table(4), more=table(8).rename_column("image", "photo"))
    dataset = load(folder, "data.train_split=small", "data.label_column=kind")
    assert (list(dataset.classes), len(dataset.train), len(dataset.test)) == (["ant", "gnu"], 6, 4)
    assert dataset.train.labels.tolist() == [1, 0] * 3
    assert len(load(folder, "data.train_split=more", "data.test_split=more").test) == 8
    with pytest.raises(DataError, match=r"data.train_split: found 'train', allowed: small, valid, more"):
        load(folder)
    with pytest.raises(DataError, match=r"data.label_column: found species, allowed: .*image, label, kind, writer"):
        load(folder, "data.train_split=small", "data.label_column=species")
    with pytest.raises(DataError, match=r"data.image_column: found 'label', allowed: a column of images"):
        load(folder, "data.train_split=small", "data.image_column=label")


def test_without_a_test_split_a_fifth_is_held_out_of_selected_rows_too(tmp_path):
    folder = saved(tmp_path / "d", train=table(40).select(range(10, 40)))
    dataset = load(folder)
    assert (len(dataset.train), len(dataset.test)) == (24, 6)
    assert np.bincount(dataset.test.labels).tolist() == [2, 2, 2]


def test_clients_by_a_column(tmp_path):
    folder = saved(tmp_path / "d", train=table(12), test=table(3))
    config = load_config({}, [f"data.name=hf:{folder}", "data.validation=0", "partition.name=natural"])
    config = load_config(config.model_dump(), ["partition.column=writer", "partition.clients=3"])
    dataset = load_dataset(config.data, 0)
    partition = make_partition(dataset, config.partition, 0)
    shares = sorted(partition.indices(client).tolist() for client in range(3))
    assert shares == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]


def test_undecodable_images_are_named_and_unlabelled_samples_refused(tmp_path):
    images = [{"bytes": encoded(Image.fromarray(pixels(8, 8)))}, {"bytes": b"no image"}, None]
    folder = saved(tmp_path / "d", train=table(3, image=images), test=table(3, label=[0, 1, -1]))
    train = load(folder, "data.test_split=train", "data.validation=0").train
    _, corrupt = Decoder(8, "bilinear", 1)(train.images, np.arange(3))
    assert corrupt == ["train row 1", "train row 2"]
    with pytest.raises(DataError, match=r"label: found -1 in row 2 of test of hf:.*, allowed: 0 to 2"):
        load(folder)


def test_files_that_are_gone_since_are_named(tmp_path):
    folder = image_folder(tmp_path / "d", train=table(6), test=table(3))
    train = load(folder, "data.validation=0").train
    gone = folder / "train" / "class 1" / "4.png"
    gone.unlink()
    _, [corrupt] = Decoder(8, "bilinear", 1)(train.images, np.arange(6))
    assert corrupt == f"train row 3 ({gone})"


def test_what_is_neither_here_nor_reachable_is_said(tmp_path):
    with pytest.raises(DataError, match=r"data.name: looked for 'nobody/nothing' as a local folder, .*Off"):
        load("nobody/nothing")
    with pytest.raises(DataError, match=r"data.subset: found 'plain_text', allowed: none"):
        load(saved(tmp_path / "d", train=table(3)), "data.subset=plain_text")
    with pytest.raises(DataError, match=r"data.name: .*plain_text"):
        load(hub_layout(tmp_path / "h", train=table(3)), "data.subset=plain_text")


def test_a_run_is_named_by_the_content_of_a_folder_or_the_revision_of_a_repository(tmp_path):
    first, second = table(3), table(4)
    folders = [
        hub_layout(tmp_path / "a", train=first),
        hub_layout(tmp_path / "b" / "moved", train=first),
        hub_layout(tmp_path / "c", train=second),
    ]
    names = [load_config({}, [f"data.name=hf:{folder}"]).run_id for folder in folders]
    assert names[0] == names[1] != names[2]
    assert "-hf-tiny-vit-" in names[0]
    hub = [load_config({}, ["data.name=hf:org/data", f"data.revision={one}"]).run_id for one in ("null", "v1", "v2")]
    assert len(set(hub)) == 3
    assert "-hf-org-data-" in hub[0]
    with pytest.raises(ConfigError, match=r"data.revision: found 'v1', allowed: none, as hf:.* is a folder"):
        load_config({}, [f"data.name=hf:{folders[0]}", "data.revision=v1"])
