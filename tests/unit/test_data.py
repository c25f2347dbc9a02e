"""Datasets, and the contract that every partitioner passes."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedsim import ConfigError
from fedsim.config import DataConfig
from fedsim.data import DATASETS, PARTITIONERS, load_dataset
from fedsim.data.partition import Dirichlet, Iid, partition


@pytest.fixture(params=list(PARTITIONERS), ids=lambda partitioner: partitioner.name)
def partitioner(request):
    return request.param


@pytest.mark.parametrize("name", [dataset.name for dataset in DATASETS])
def test_datasets_have_the_documented_form(name):
    dataset = load_dataset(DataConfig(name=name))
    for split in (dataset.train(), dataset.test()):
        assert split.images.dtype == np.uint8
        assert split.images.ndim == 4
        assert split.images.shape[3] in (1, 3)
        assert split.labels.dtype == np.int64
        assert len(split.images) == len(split) > 0
        assert set(np.unique(split.labels)) == set(range(len(dataset.classes)))


def test_digits_splits_are_fixed_and_disjoint():
    dataset = load_dataset(DataConfig())
    assert (len(dataset.train()), len(dataset.test())) == (1437, 360)
    train, test = (set(map(bytes, split.images.reshape(len(split), -1))) for split in (dataset.train(), dataset.test()))
    assert not train & test
    assert dataset.train().images.max() == 255


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    labels=st.lists(st.integers(0, 9), min_size=1, max_size=300),
    share=st.floats(0, 1),
    alpha=st.floats(1e-3, 1e4),
    seed=st.integers(0, 2**63 - 1),
)
def test_every_sample_once_and_no_empty_client(partitioner, labels, share, alpha, seed):
    clients = max(1, round(share * len(labels)))
    config = DataConfig(clients=clients, alpha=alpha)
    first, second = (partition(partitioner, np.array(labels), config, seed) for _ in range(2))
    assert first.clients == clients
    assert sorted(first.order) == list(range(len(labels)))
    assert first.sizes().min() >= 1
    assert first.offsets[-1] == len(labels)
    assert np.array_equal(first.order, second.order)
    assert np.array_equal(first.offsets, second.offsets)


def test_seeds_give_different_splits(partitioner):
    labels = np.arange(1000) % 10
    first, second = (partition(partitioner, labels, DataConfig(clients=7), seed) for seed in (0, 1))
    assert not np.array_equal(first.order, second.order)


def test_more_clients_than_samples_is_an_error(partitioner):
    with pytest.raises(ConfigError, match=r"data.clients: found 11, allowed: at most 10"):
        partition(partitioner, np.zeros(10, int), DataConfig(clients=11), 0)


@pytest.mark.parametrize("alpha", [1e-3, 0.1, 10, 1e4])
def test_a_hundred_thousand_clients(partitioner, alpha):
    labels = np.random.default_rng(0).integers(0, 10, 300_000)
    split = partition(partitioner, labels, DataConfig(clients=100_000, alpha=alpha), 0)
    assert split.clients == 100_000
    assert split.sizes().min() >= 1
    assert np.array_equal(np.sort(split.order), np.arange(300_000))


def test_iid_sizes_differ_by_at_most_one():
    sizes = partition(Iid, np.zeros(1003, int), DataConfig(clients=10), 0).sizes()
    assert set(sizes) == {100, 101}


@pytest.mark.parametrize(("alpha", "least", "most"), [(1e4, 0.099, 0.115), (10, 0.11, 0.2), (0.1, 0.4, 0.95)])
def test_dirichlet_skew_grows_as_alpha_falls(alpha, least, most):
    labels = np.arange(50_000) % 10
    split = partition(Dirichlet, labels, DataConfig(clients=20, alpha=alpha), 0)
    largest = [np.bincount(labels[split.indices(k)], minlength=10).max() / split.sizes()[k] for k in range(20)]
    assert least < np.mean(largest) < most


def test_dirichlet_shares_have_the_moments_of_the_distribution():
    labels = np.zeros(10_000, int)
    shares = np.array(
        [partition(Dirichlet, labels, DataConfig(clients=4, alpha=2), s).sizes() / 1e4 for s in range(400)]
    )
    np.testing.assert_allclose(shares.mean(0), 0.25, atol=0.02)
    expected_variance = 0.25 * 0.75 / (4 * 2 + 1)
    np.testing.assert_allclose(shares.var(0), expected_variance, rtol=0.25)
