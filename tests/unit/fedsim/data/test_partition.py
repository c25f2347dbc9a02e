"""The contract that every partitioner passes."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedsim import ConfigError
from fedsim.config import DataConfig
from fedsim.data.partition import PARTITIONERS, partition
from fedsim.data.partition.dirichlet import Dirichlet
from fedsim.data.partition.iid import Iid
from fedsim.data.partition.natural import Natural
from fedsim.data.partition.quantity import Quantity
from fedsim.data.partition.shards import Shards


@dataclass(frozen=True)
class Samples:
    """Labels, and groups of at most three neighbours, so that there are enough of them for many clients."""

    labels: np.ndarray
    groups: np.ndarray | None = None

    @classmethod
    def grouped(cls, labels, clients):
        return cls(np.asarray(labels), np.arange(len(labels)) % max(clients, len(labels) // 3))


@pytest.fixture(params=list(PARTITIONERS), ids=lambda partitioner: partitioner.name)
def partitioner(request):
    return request.param


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
    first, second = (partition(partitioner, Samples.grouped(labels, clients), config, seed) for _ in range(2))
    assert first.clients == clients
    assert sorted(first.order) == list(range(len(labels)))
    assert first.sizes().min() >= 1
    assert first.offsets[-1] == len(labels)
    assert np.array_equal(first.order, second.order)
    assert np.array_equal(first.offsets, second.offsets)


def test_seeds_give_different_splits(partitioner):
    labels = np.arange(1000) % 10
    first, second = (partition(partitioner, Samples.grouped(labels, 7), DataConfig(clients=7), seed) for seed in (0, 1))
    assert not np.array_equal(first.order, second.order)


def test_more_clients_than_samples_is_an_error(partitioner):
    with pytest.raises(ConfigError, match=r"partition.clients: found 11, allowed: at most 10"):
        partition(partitioner, Samples.grouped(np.zeros(10, int), 11), DataConfig(clients=11), 0)


@pytest.mark.parametrize("alpha", [1e-3, 0.1, 10, 1e4])
def test_a_hundred_thousand_clients(partitioner, alpha):
    labels = np.random.default_rng(0).integers(0, 10, 300_000)
    split = partition(partitioner, Samples.grouped(labels, 100_000), DataConfig(clients=100_000, alpha=alpha), 0)
    assert split.clients == 100_000
    assert split.sizes().min() >= 1
    assert np.array_equal(np.sort(split.order), np.arange(300_000))


def test_iid_sizes_differ_by_at_most_one():
    sizes = partition(Iid, Samples(np.zeros(1003, int)), DataConfig(clients=10), 0).sizes()
    assert set(sizes) == {100, 101}


@pytest.mark.parametrize(("alpha", "least", "most"), [(1e4, 0.099, 0.115), (10, 0.11, 0.2), (0.1, 0.4, 0.95)])
def test_dirichlet_skew_grows_as_alpha_falls(alpha, least, most):
    labels = np.arange(50_000) % 10
    split = partition(Dirichlet, Samples(labels), DataConfig(clients=20, alpha=alpha), 0)
    largest = [np.bincount(labels[split.indices(k)], minlength=10).max() / split.sizes()[k] for k in range(20)]
    assert least < np.mean(largest) < most


def test_dirichlet_shares_have_the_moments_of_the_distribution():
    labels = np.zeros(10_000, int)
    shares = np.array(
        [partition(Dirichlet, Samples(labels), DataConfig(clients=4, alpha=2), s).sizes() / 1e4 for s in range(400)]
    )
    np.testing.assert_allclose(shares.mean(0), 0.25, atol=0.02)
    expected_variance = 0.25 * 0.75 / (4 * 2 + 1)
    np.testing.assert_allclose(shares.var(0), expected_variance, rtol=0.25)


def test_shards_give_a_client_about_as_many_labels_as_asked_for():
    labels = np.random.default_rng(0).permutation(np.arange(10_000) % 10)
    split = partition(Shards, Samples(labels), DataConfig(clients=50, labels_per_client=2), 0)
    assert set(split.sizes()) == {200}
    assert max(len(np.unique(labels[split.indices(k)])) for k in range(50)) <= 2


def test_quantity_skews_sizes_and_not_labels():
    labels = np.arange(20_000) % 10
    split = partition(Quantity, Samples(labels), DataConfig(clients=10, alpha=0.5), 0)
    assert split.sizes().max() > 3 * np.median(split.sizes())
    largest = np.bincount(labels[split.indices(int(split.sizes().argmax()))]) / split.sizes().max()
    assert largest.max() < 0.13


def test_natural_keeps_groups_whole_and_refuses_more_clients_than_groups():
    groups = np.random.default_rng(0).integers(0, 30, 1000)
    samples = Samples(np.zeros(1000, int), groups)
    split = partition(Natural, samples, DataConfig(clients=7), 0)
    owners = [set(groups[split.indices(k)]) for k in range(7)]
    assert sum(map(len, owners)) == 30
    with pytest.raises(ConfigError, match=r"partition.clients: found 31, allowed: at most 30"):
        partition(Natural, samples, DataConfig(clients=31), 0)
    with pytest.raises(ConfigError, match=r"partition.column: found None"):
        partition(Natural, Samples(np.zeros(50, int)), DataConfig(clients=7), 0)
