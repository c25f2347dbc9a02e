"""The ridge head."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.config import load_config
from fedsim.data import Decoder, load_dataset
from fedsim.engine import make_model
from fedsim.heads import HEADS
from fedsim.methods import ClientTask
from fedsim.methods.ridge import ridge
from fedsim.testing import run_rounds
from tests.unit.fedsim.heads.test_fit import embeddings


def sums_of(x, y, classes):
    member = np.eye(classes)[y]
    return member.sum(0), member.T @ x, x.T @ x


@pytest.mark.parametrize("penalty", [0.5, 30.0])
def test_ridge_is_that_of_scikit_learn(penalty):
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    x, y = rng.normal(1, 2, (80, 12)), rng.integers(0, 4, 80)
    weights, bias = ridge(*sums_of(x, y, 4), penalty)
    reference = Ridge(alpha=penalty).fit(x, np.eye(4)[y])
    assert np.allclose(weights, reference.coef_, atol=1e-10)
    assert np.allclose(bias, reference.intercept_, atol=1e-10)


def test_cross_validation_needs_no_samples_only_sums():
    rng = np.random.default_rng(1)
    x, y = rng.normal(0, 1, (60, 30)), rng.integers(0, 3, 60)
    targets = np.eye(3)[y]
    sums = sums_of(x, y, 3)

    def score(penalty):
        """Generalised cross-validation by the hat matrix of the samples."""
        centred = x - x.mean(0)
        hat = centred @ np.linalg.solve(centred.T @ centred + penalty * np.eye(30), centred.T) + 1 / 60
        return ((targets - hat @ targets) ** 2).sum() / (1 - np.trace(hat) / 60) ** 2

    chosen = ridge(*sums, None)[0]
    grid = np.linalg.eigvalsh(np.cov(x.T, bias=True) * 60).max() * 2.0 ** np.arange(-20, 4.5, 0.5)
    best = min(grid, key=score)
    assert np.allclose(chosen, ridge(*sums, best)[0], atol=1e-8)


@pytest.mark.parametrize("samples", [1, 5])
def test_fewer_samples_than_dimensions_and_absent_classes_give_finite_heads(samples):
    x, y = np.random.default_rng(2).normal(size=(samples, 16)), np.zeros(samples, int)
    for penalty in (None, 0.0, 1.0):
        assert all(np.isfinite(array).all() for array in ridge(*sums_of(x, y, 3), penalty))


@settings(max_examples=25, deadline=None)
@given(owners=st.lists(st.integers(0, 6), min_size=120, max_size=120), projection=st.sampled_from([None, 32]))
def test_any_partition_gives_the_head_of_the_pooled_samples(owners, projection, ridge_task):
    config, model, features, labels = ridge_task(projection)
    head = HEADS.get("ridge")
    heads = []
    for split in (np.zeros(120, int), np.array(owners)):
        client, server = (half(config.head, config, model) for half in (head.client, head.server))
        for owner in np.unique(split):
            rows = np.flatnonzero(split == owner)
            task = ClientTask(0, int(owner), features[rows], labels[rows])
            update = client.encode(client.train(None, task).value, None, task)
            server.accumulate(server.decode(0, int(owner), update.payload), 1)
        server.finish_round()
        heads.append(server.state())
    scale = np.abs(heads[0]["weight"]).max()
    assert np.allclose(heads[0]["weight"], heads[1]["weight"], atol=1e-4 * scale)
    assert np.allclose(heads[0]["bias"], heads[1]["bias"], atol=1e-4)


@pytest.fixture(scope="module")
def ridge_task():
    cached = {}

    def make(projection):
        if projection not in cached:
            keys = [] if projection is None else [f"head.projection={projection}"]
            config = load_config({"data": {"train_samples": 120, "validation": 0}}, ["head.name=ridge", *keys])
            dataset, model = load_dataset(config.data, 0), make_model(config, classes=10)
            pixels, _ = Decoder(32, model.backbone.interpolation, 1)(dataset.train.images, np.arange(120))
            features = model.prefix_features(pixels)
            cached[projection] = config, model, features, torch.from_numpy(dataset.train.labels)
        return cached[projection]

    return make


def test_a_projection_shortens_the_upload_and_both_sides_know_it(small_config):
    full, short = (
        run_rounds(small_config("head.name=ridge", "rounds=1", *keys))[2][0] for keys in ([], ["head.projection=32"])
    )
    assert short.clients[0]["payload_bytes"] < 0.15 * full.clients[0]["payload_bytes"]
    assert short.round["accuracy"] > 0.8


def test_the_head_is_the_pooled_one_under_skew(small_config):
    config = small_config("head.name=ridge", "rounds=1", "partition.name=dirichlet", "partition.alpha=0.1")
    dataset = load_dataset(config.data, config.seed)
    _, federation, _ = run_rounds(config)
    x = embeddings(federation.model, dataset.train.images)[dataset.client_rows]
    weights, bias = ridge(*sums_of(x, dataset.train.labels[dataset.client_rows], 10), None)
    head = federation.model.head_state()
    ratio = head["weight"] / weights  # one over the temperature
    assert ratio.std() < 1e-2 * abs(ratio.mean())
    assert np.allclose(head["bias"], bias * ratio.mean(), atol=1e-2 * np.abs(head["bias"]).max())


def test_as_a_method_each_client_sends_its_sums_once(small_config):
    config = small_config(
        "method.name=ridge", "head.name=random", "partition.clients=6", "participation=0.5", "rounds=5"
    )
    outcomes = run_rounds(config)[2]
    seen = set()
    for outcome in outcomes[1:]:
        for row in outcome.clients:
            assert (row["payload_bytes"] > 10_000) == (row["client"] not in seen)
            seen.add(row["client"])
    assert len(seen) > 3
    assert outcomes[-1].round["accuracy"] > outcomes[0].round["accuracy"] + 0.5


def test_a_compressed_scatter_matrix_costs_little_accuracy(small_config):
    full, short = (
        run_rounds(small_config("head.name=ridge", "rounds=1", *keys))[2][0]
        for keys in ([], ["head.compressor.name=eden", "head.compressor.rate=3"])
    )
    assert short.clients[0]["payload_bytes"] < 0.25 * full.clients[0]["payload_bytes"]
    assert short.round["accuracy"] > full.round["accuracy"] - 0.03
