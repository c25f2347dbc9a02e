"""Every partitioner keeps to the contract, and does what its own name says."""

import numpy as np
import pytest
from hypothesis import strategies as st

from fedsim import ConfigError, load_config
from fedsim.data import load_dataset
from fedsim.data.partition import PARTITIONERS, make_partition, partition
from fedsim.data.partition.dirichlet import Dirichlet
from fedsim.data.partition.iid import Iid
from fedsim.data.partition.natural import Natural
from fedsim.data.partition.quantity import Quantity
from fedsim.data.partition.shards import Shards
from fedsim.testing import LabelledSamples, PartitionContract

ALPHA = st.floats(1e-3, 1e4)
DRAWN = {
    "dirichlet": {"alpha": ALPHA},
    "quantity": {"alpha": ALPHA},
    "shards": {"labels_per_client": st.integers(1, 20)},
}
VARIANTS = [
    *((member.name, {"column": "writer"} if member is Natural else {}) for member in PARTITIONERS),
    *((name, {"alpha": alpha}) for name in ("dirichlet", "quantity") for alpha in (1e-3, 0.1, 1e4)),
]


class TestPartitioners(PartitionContract):
    @pytest.fixture(params=VARIANTS, ids=lambda variant: " ".join(map(str, (variant[0], *variant[1].values()))))
    def chosen(self, request):
        name, keys = request.param
        return name, keys, DRAWN.get(name, {})


def samples(labels):
    return LabelledSamples(labels, np.zeros_like(labels))


def split(partitioner, samples, seed, **keys):
    return partition(partitioner, samples, partitioner.Params(name=partitioner.name, **keys), seed)


def test_iid_sizes_differ_by_at_most_one():
    sizes = split(Iid, samples(np.zeros(1003, int)), 0, clients=10).sizes()
    assert set(sizes) == {100, 101}


@pytest.mark.parametrize(("alpha", "least", "most"), [(1e4, 0.099, 0.115), (10, 0.11, 0.2), (0.1, 0.4, 0.95)])
def test_dirichlet_skew_grows_as_alpha_falls(alpha, least, most):
    labels = np.arange(50_000) % 10
    found = split(Dirichlet, samples(labels), 0, clients=20, alpha=alpha)
    largest = [np.bincount(labels[found.indices(k)], minlength=10).max() / found.sizes()[k] for k in range(20)]
    assert least < np.mean(largest) < most


def test_dirichlet_shares_have_the_moments_of_the_distribution():
    labels = np.zeros(10_000, int)
    shares = np.array([split(Dirichlet, samples(labels), s, clients=4, alpha=2).sizes() / 1e4 for s in range(400)])
    np.testing.assert_allclose(shares.mean(0), 0.25, atol=0.02)
    expected_variance = 0.25 * 0.75 / (4 * 2 + 1)
    np.testing.assert_allclose(shares.var(0), expected_variance, rtol=0.25)


def test_shards_give_a_client_about_as_many_labels_as_asked_for():
    labels = np.random.default_rng(0).permutation(np.arange(10_000) % 10)
    found = split(Shards, samples(labels), 0, clients=50, labels_per_client=2)
    assert set(found.sizes()) == {200}
    assert max(len(np.unique(labels[found.indices(k)])) for k in range(50)) <= 2


def test_quantity_skews_sizes_and_not_labels():
    labels = np.arange(20_000) % 10
    found = split(Quantity, samples(labels), 0, clients=10, alpha=0.5)
    assert found.sizes().max() > 3 * np.median(found.sizes())
    largest = np.bincount(labels[found.indices(int(found.sizes().argmax()))]) / found.sizes().max()
    assert largest.max() < 0.13


def test_natural_keeps_groups_whole_and_refuses_more_clients_than_groups():
    groups = np.random.default_rng(0).integers(0, 30, 1000)
    grouped = LabelledSamples(np.zeros(1000, int), groups)
    found = split(Natural, grouped, 0, clients=7, column="writer")
    owners = [set(groups[found.indices(k)]) for k in range(7)]
    assert sum(map(len, owners)) == 30
    with pytest.raises(ConfigError, match=r"partition.clients: found 31, allowed: at most 30"):
        split(Natural, grouped, 0, clients=31, column="writer")
    with pytest.raises(ConfigError, match=r"partition.column: found none"):
        split(Natural, grouped, 0, clients=7)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_clients_have_all_training_samples_but_those_held_out_by_seed(share):
    config = load_config(overrides=[f"data.validation={share}", "data.train_samples=200", "partition.clients=1"])
    held_out = []
    for seed in (0, 0, 1):
        dataset = load_dataset(config.data, seed)
        split = make_partition(dataset, config.partition, seed)
        assert np.array_equal(np.sort([*split.order, *dataset.validation_rows]), np.arange(200))
        held_out.append(dataset.validation_rows.tolist())
    assert len(held_out[0]) == min(199, np.ceil(200 * share))
    assert held_out[0] == held_out[1]
    assert (held_out[0] == held_out[2]) == (share == 0)
