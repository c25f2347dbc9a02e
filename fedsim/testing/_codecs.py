"""The contract of codecs: an index set to bytes and back."""

from __future__ import annotations

import contextlib
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deltamask import PayloadError, codecs
from deltamask.codecs import Codec
from fedsim.methods import CODECS
from fedsim.testing._members import check_named, name_of

#: Suites are inherited, their fixtures do not change from one example to the next, and a first call compiles.
INHERITED = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors], deadline=None
)
#: The same with fewer examples.
FEWER = settings(INHERITED, max_examples=60)

_index_sets = st.integers(1, 5000).flatmap(
    lambda d: st.tuples(st.just(d), st.sets(st.integers(0, d - 1), max_size=200).map(sorted))
)


class CodecContract:
    """The contract of every codec.

    Decoding gives every index that was encoded, in order, and others as rarely as promised; encoding is a function of
    the set; other input is refused; damaged bytes raise the typed error or give some set, whatever they claim::

        class TestGolomb(CodecContract):
            codec = "my_codecs:Golomb"

    Override the fixture :meth:`subject` for several codecs.
    """

    #: The codec: its name, ``package.module:Class`` or the class.
    codec: ClassVar[str | type[Codec] | None] = None

    @pytest.fixture
    def subject(self) -> Codec:
        """The codec."""
        return CODECS.get(name_of(self.codec, CODECS, "codec"))

    def test_it_has_a_name_and_an_id_of_its_own(self, subject: Codec) -> None:
        check_named(subject)
        assert 0 < subject.id < 256
        assert all(type(other) is type(subject) or other.id != subject.id for other in codecs.CODECS.values())
        assert 0 <= subject.false_positive_rate < 1

    @INHERITED
    @given(_index_sets)
    def test_round_trip_has_no_false_negatives(self, subject: Codec, case: tuple[int, list[int]]) -> None:
        dimension, members = case
        decoded = subject.decode(subject.encode(np.array(members, np.uint64), dimension), dimension)
        assert decoded.dtype == np.uint64
        assert set(members) <= set(decoded.tolist())
        assert (np.diff(decoded.astype(np.int64)) > 0).all()
        assert decoded.size == 0 or decoded[-1] < dimension
        if subject.exact or not members:
            assert decoded.tolist() == members

    @pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 10, 100, 1000])
    def test_every_size_and_the_full_set_round_trip(self, subject: Codec, size: int) -> None:
        members = np.arange(size, dtype=np.uint64)
        for dimension in (max(size, 1), size + 1000):
            assert np.isin(members, subject.decode(subject.encode(members, dimension), dimension)).all()

    @pytest.mark.parametrize("share", [0.001, 0.01, 0.05])
    def test_false_positives_are_as_rare_as_promised(self, subject: Codec, share: float) -> None:
        dimension = 2_000_000
        members = random_indices(share, dimension)
        decoded = subject.decode(subject.encode(members, dimension), dimension)
        extra = decoded.size - members.size
        expected = subject.false_positive_rate * (dimension - members.size)
        assert np.isin(members, decoded).all()
        assert abs(extra - expected) <= 5 * np.sqrt(expected) + 1e-9

    def test_encoding_is_deterministic_and_leaves_its_input_alone(self, subject: Codec) -> None:
        members = random_indices(0.01, 100_000)
        before = members.copy()
        assert subject.encode(members, 100_000) == subject.encode(members, 100_000)
        assert np.array_equal(members, before)

    def test_with_probabilities_and_a_key_it_holds_the_same_set(self, subject: Codec) -> None:
        members, theta_d = random_indices(0.01, 10_000), np.full(10_000, 0.9, np.float32)
        decoded = subject.decode_given(subject.encode_given(members, theta_d, 3), theta_d, 3)
        assert np.isin(members, decoded).all()
        assert not subject.exact or np.array_equal(decoded, members)
        bits = subject.bits_given(members, theta_d, 3)
        assert bits.shape == members.shape
        assert (bits > 0).all()

    @pytest.mark.parametrize(
        "indices",
        [np.array([3, 2], np.uint64), np.array([2, 2], np.uint64), np.array([10], np.uint64), np.array([1])],
        ids=["descending", "repeated", "too large", "not uint64"],
    )
    def test_other_index_sets_are_refused(self, subject: Codec, indices: np.ndarray) -> None:
        with pytest.raises(ValueError, match="indices"):
            subject.encode(indices, 10)

    @FEWER
    @given(data=st.data())
    def test_corrupt_bodies_give_the_typed_error_or_some_set(self, subject: Codec, data: st.DataObject) -> None:
        dimension = 4000
        damaged = draw_damaged(data, subject.encode(random_indices(0.02, dimension), dimension))
        try:
            decoded = subject.decode(damaged, dimension)
        except PayloadError:
            return
        assert decoded.size <= dimension
        assert decoded.size == 0 or decoded[-1] < dimension

    @INHERITED
    @given(st.binary(max_size=200))
    def test_arbitrary_bytes_give_the_typed_error_or_some_set(self, subject: Codec, data: bytes) -> None:
        with contextlib.suppress(PayloadError):
            assert subject.decode(data, 1000).size <= 1000


def random_indices(share: float, dimension: int, seed: int = 0) -> np.ndarray:
    """Indices that are each in the set with a chance of ``share``: ascending uint64."""
    return np.flatnonzero(np.random.default_rng(seed).random(dimension) < share).astype(np.uint64)


def draw_damaged(data: st.DataObject, body: bytes) -> bytes:
    """A body with some bytes changed and its end cut off."""
    damaged = bytearray(body)
    for position in data.draw(st.lists(st.integers(0, len(body) - 1), min_size=1, max_size=4)):
        damaged[position] ^= data.draw(st.integers(1, 255))
    return bytes(damaged[: data.draw(st.integers(0, len(body)))])
