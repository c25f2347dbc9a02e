"""Augmented views of training images: which there are, who takes which, and what their features are."""

import numpy as np
import pytest
import torch

from deltamask import stream_key
from fedsim import ConfigError
from fedsim.config import load_config
from fedsim.data import Decoder, load_dataset
from fedsim.data.augmentation import Augmentation
from fedsim.errors import DataError
from fedsim.features import PrefixFeatures, Views
from fedsim.models import build_model
from fedsim.testing import run_rounds
from tests.unit.fedsim.data.layouts import pixels, write_image

TINY = [
    *("data.train_samples=40", "data.test_samples=20", "partition.clients=3", "train.batch_size=8", "rounds=2"),
    *("model.masked_blocks=1", "evaluate.batch_size=20"),
]


@pytest.fixture
def tiny(small_config):
    return lambda *keys: small_config(*TINY, *keys)


def parts(config):
    """The training features of an experiment, with its model, its images as the model takes them, and the views."""
    dataset = load_dataset(config.data, config.seed)
    model = build_model(config.model, len(dataset.classes))
    views = Views(config, len(dataset.train))
    features = PrefixFeatures(config, model, dataset.train.images, views=views)
    features.prepare()
    size = model.backbone.input_size
    pixels, _ = Decoder(size, model.backbone.interpolation, 1)(dataset.train.images, np.arange(len(dataset.train)))
    return features, model, pixels, views


def test_kept_views_are_the_image_and_its_changes_through_the_prefix(tiny):
    features, model, pixels, _ = parts(tiny("data.augment=[flip]", "data.views=3"))
    plain, flipped = (model.prefix_features(of) for of in (pixels, np.ascontiguousarray(pixels[:, :, ::-1])))
    torch.testing.assert_close(features(np.arange(40)), plain)
    flips = []
    for view in (1, 2):
        found = features(view * 40 + np.arange(40))
        is_flipped = [bool(torch.allclose(row, other, atol=1e-5)) for row, other in zip(found, flipped, strict=True)]
        expected = torch.where(torch.tensor(is_flipped)[:, None, None], flipped, plain)
        torch.testing.assert_close(found, expected)
        flips.append(is_flipped)
    assert flips[0] != flips[1]
    assert all(5 < sum(of_view) < 35 for of_view in flips)


def test_a_view_follows_from_seed_sample_and_view_alone():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8)
    samples, views = np.arange(6), np.array([0, 1, 1, 2, 0, 3])
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    augment = Augmentation(["flip", "crop", "randaugment"], seed=3)
    together = augment(pixels, samples, views)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(together[views == 0], pixels[views == 0])
    assert (together[views > 0] != pixels[views > 0]).any((1, 2, 3)).all()
    for index in (5, 1, 3):
        alone = slice(index, index + 1)
        assert np.array_equal(augment(pixels[alone], samples[alone], views[alone]), together[alone])
    assert not np.array_equal(Augmentation(["flip", "crop", "randaugment"], seed=4)(pixels, samples, views), together)


def test_a_crop_moves_the_image_over_reflected_borders():
    pixels = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3), np.uint8)
    samples = np.arange(30)
    cropped = Augmentation(["crop"])(pixels, samples, np.ones(30, np.int64))
    padded = np.pad(pixels, ((0, 0), (2, 2), (2, 2), (0, 0)), "reflect")
    places = [
        next(
            (y, x) for y in range(5) for x in range(5) if np.array_equal(padded[i, y : y + 16, x : x + 16], cropped[i])
        )
        for i in range(30)
    ]
    assert len(set(places)) > 8


def test_clients_take_kept_views_at_random_and_new_ones_by_round(tiny):
    kept, anew = Views(tiny("data.augment=[flip]", "data.views=4"), 40), Views(tiny("data.augment=[crop]"), 40)
    samples = np.arange(3, 40)
    first, again, other = (kept.rows(samples, *at) for at in ((1, 0), (1, 0), (2, 0)))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(first % 40, samples)
    assert set(first // 40) == {0, 1, 2, 3}
    assert np.array_equal(anew.rows(samples, 7, 0), 7 * 40 + samples)
    assert Views(tiny(), 40).rows(samples, 7, 0) is samples
    rng = np.random.Generator(np.random.Philox(key=stream_key(kept._seed, "view", 1, 0)))
    assert np.array_equal(first // 40, rng.integers(4, size=37))


@pytest.mark.parametrize("views", [[], ["data.views=3"]])
@pytest.mark.parametrize("participation", [1.0, 0.1])
def test_runs_repeat_whoever_computes_and_test_images_are_as_they_are(tiny, tmp_path, views, participation):
    keys = [f"participation={participation}", "evaluate.clients=0.2"]
    augmented = ["data.augment=[flip,crop]", *views, *keys]
    (executor, _, _), (again, _, _), (plain, _, _) = (
        run_rounds(tiny(*of_run))
        for of_run in (augmented, [*augmented, f"cluster.feature_store={tmp_path / 'other'}"], keys)
    )
    assert executor.uploads == again.uploads
    assert all((payload == plain.uploads[at]) == (at[0] == 0) for at, payload in executor.uploads.items())
    for split, count in (("test", 20), ("train", 40)):
        assert torch.equal(*(one.trainer.samples(split, np.arange(count))[0] for one in (executor, plain)))
    together, *alone = (
        [upload.update.payload for upload in again.trainer.train("method", 1, cohort, again.broadcasts[1], {})]
        for cohort in ([2, 0, 1], [0], [1])
    )
    assert together[1:] == [payload for [payload] in alone]


def test_what_new_views_cost_is_said(tiny):
    assert parts(tiny("data.augment=[flip]", "data.views=2"))[0].warnings == []
    assert parts(tiny("data.augment=[flip]", "model.masked_blocks=8"))[0].warnings == []
    [warning] = parts(tiny("data.augment=[flip]"))[0].warnings
    assert warning.startswith("data.augment without data.views: the frozen prefix runs")
    data = [tiny(*keys).data for keys in ([], ["data.augment=[flip]"], ["data.augment=[flip]", "data.views=3"])]
    assert [(one.prefix_passes(True), one.prefix_passes(False)) for one in data] == [(1, 0), (1, 1), (3, 0)]


def test_images_that_cannot_be_decoded_are_found_in_new_views_too(tiny, tmp_path):
    for split in ("train", "test"):
        for index in range(4):
            write_image(tmp_path / split / f"class {index % 2}" / f"{index}.png", pixels(8, 8))
    (tmp_path / "train" / "class 1" / "3.png").write_bytes(b"no image")
    data = ["data.name=image-folder", f"data.path={tmp_path}", "data.augment=[crop]", "participation=0.1"]
    config = tiny(*data)
    dataset = load_dataset(config.data, 0)
    views = Views(config, 4)
    features = PrefixFeatures(config, build_model(config.model, 2), dataset.train.images, views=views, all_needed=False)
    features(views.rows(np.arange(3), 1, 0))
    with pytest.raises(DataError, match=r"data.max_corrupt: found 1 of 4 images that cannot be decoded \(.*3.png\)"):
        features(views.rows(np.arange(4), 1, 0))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["data.augment=[turn]"], r"data.augment.0: found 'turn', allowed: 'flip', 'crop' or 'randaugment'"),
        (["data.augment=[flip,flip]"], r"data.augment: found \['flip', 'flip'\], allowed: each change once"),
        (["data.views=3"], r"data.views: found 3, allowed: none, unless data.augment"),
        (["data.augment=[flip]", "data.views=1"], r"data.views: found 1, allowed: greater than or equal to 2"),
    ],
)
def test_keys_without_meaning_are_refused(keys, message):
    with pytest.raises(ConfigError, match=message):
        load_config({}, keys)
