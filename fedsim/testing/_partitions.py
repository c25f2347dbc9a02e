"""The contract of partitioners: who has which samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.data.partition import PARTITIONERS, Partition, Partitioner, partition
from fedsim.errors import ConfigError
from fedsim.testing._codecs import FEWER
from fedsim.testing._members import check_named, name_of, params_of


@dataclass(frozen=True)
class LabelledSamples:
    """Samples for a partitioner: labels, and the values of any column, one for each sample."""

    labels: np.ndarray
    values: np.ndarray

    def column(self, name: str) -> np.ndarray:
        """The values, whatever the column is called."""
        return self.values


class PartitionContract:
    """The contract of every partitioner.

    Every sample is at one client, no client is empty, the split follows from the seed and the samples alone, more
    clients than samples are refused, and a hundred thousand clients are no trouble::

        class TestByHour(PartitionContract):
            partition = "my_partitions:ByHour"
            settings = {"column": "hour"}

    Override the fixture :meth:`chosen` for several variants of one partitioner. Columns have as many values as there
    are clients or more.
    """

    #: The partitioner: its name, ``package.module:Class`` or the class.
    partition: ClassVar[str | type[Partitioner] | None] = None
    #: Keys of its group.
    settings: ClassVar[Mapping[str, Any]] = {}
    #: Keys whose values are drawn in property tests.
    drawn: ClassVar[Mapping[str, st.SearchStrategy[Any]]] = {}

    @pytest.fixture
    def chosen(self) -> tuple[str, Mapping[str, Any], Mapping[str, st.SearchStrategy[Any]]]:
        """The partitioner's name, :attr:`settings` and :attr:`drawn`."""
        return name_of(self.partition, PARTITIONERS, "partition"), self.settings, self.drawn

    def test_it_has_a_name_and_a_line_for_listings(self, chosen: Any) -> None:
        check_named(PARTITIONERS.get(chosen[0]))

    @FEWER
    @given(
        labels=st.lists(st.integers(0, 9), min_size=1, max_size=300),
        share=st.floats(0, 1),
        seed=st.integers(0, 2**63 - 1),
        data=st.data(),
    )
    def test_every_sample_once_and_no_empty_client(
        self, chosen: Any, labels: list[int], share: float, seed: int, data: st.DataObject
    ) -> None:
        name, given_keys, drawn = chosen
        more = data.draw(st.fixed_dictionaries(dict(drawn)))
        clients = max(1, round(share * len(labels)))
        first, second = (_split((name, {**given_keys, **more}, {}), labels, clients, seed) for _ in range(2))
        assert first.clients == clients
        assert sorted(first.order) == list(range(len(labels)))
        assert first.sizes().min() >= 1
        assert first.offsets[-1] == len(labels)
        assert np.array_equal(first.order, second.order)
        assert np.array_equal(first.offsets, second.offsets)

    def test_seeds_give_different_splits(self, chosen: Any) -> None:
        splits = (_split(chosen, np.arange(1000) % 10, 7, seed) for seed in range(5))
        # Of very skewed splits, two may be the same by chance.
        assert len({split.order.tobytes() for split in splits}) > 1

    def test_more_clients_than_samples_is_an_error(self, chosen: Any) -> None:
        with pytest.raises(ConfigError, match=r"partition.clients: found 11, allowed: at most 10"):
            _split(chosen, np.zeros(10, int), 11, 0)

    def test_a_hundred_thousand_clients(self, chosen: Any) -> None:
        split = _split(chosen, np.random.default_rng(0).integers(0, 10, 300_000), 100_000, 0)
        assert split.clients == 100_000
        assert split.sizes().min() >= 1
        assert np.array_equal(np.sort(split.order), np.arange(300_000))


def _split(chosen: Any, labels: Any, clients: int, seed: int) -> Partition:
    name, given_keys, _ = chosen
    params = params_of(name, PARTITIONERS, {**given_keys, "clients": clients})
    # At most three neighbours share a value, so that there are enough values for many clients.
    samples = LabelledSamples(np.asarray(labels), np.arange(len(labels)) % max(clients, len(labels) // 3))
    return partition(PARTITIONERS.get(name), samples, params, seed)
