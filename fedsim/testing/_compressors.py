"""The contract of compressors: a dense vector to bytes and back to an estimate of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deltamask import PayloadError, codecs, payload
from fedsim.compression import COMPRESSORS, Compressor, make_compressor
from fedsim.testing._codecs import FEWER, INHERITED, draw_damaged
from fedsim.testing._members import check_named, name_of, params_of

_vectors = hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-1e6, 1e6, width=32))


class CompressorContract:
    """The contract of every compressor.

    Every vector has a finite estimate of its shape that keeps its direction; a message is a function of vector and key;
    an unbiased estimate has the vector as its mean; other input is refused; damaged messages raise the typed error::

        class TestPowerSgd(CompressorContract):
            compressor = "my_compressors:PowerSgd"
            settings = {"rank": 2}

    Override the fixture :meth:`subject` for several variants of one compressor.
    """

    #: The compressor: its name, ``package.module:Class`` or the class.
    compressor: ClassVar[str | type[Compressor] | None] = None
    #: Keys of its group.
    settings: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def subject(self) -> Compressor:
        """The compressor."""
        name = name_of(self.compressor, COMPRESSORS, "compressor")
        return make_compressor(params_of(name, COMPRESSORS, self.settings))

    def test_it_has_a_name_and_an_id_of_its_own(self, subject: Compressor) -> None:
        check_named(subject)
        assert 64 <= subject.id < 256
        assert all(other is type(subject) or other.id != subject.id for other in COMPRESSORS)
        assert subject.id not in {codec.id for codec in codecs.CODECS.values()}

    @INHERITED
    @given(_vectors, st.integers(0, 2**64 - 1))
    @example(np.array([2.0**-126] + 15 * [0.0], np.float32), 0)
    def test_every_vector_has_a_finite_estimate_of_its_shape(
        self, subject: Compressor, vector: np.ndarray, key: int
    ) -> None:
        estimate = round_trip(subject, vector, key)
        assert estimate.dtype == np.float32
        assert estimate.shape == vector.shape
        assert np.isfinite(estimate).all()
        if not vector.any():
            assert not estimate.any()

    @pytest.mark.parametrize("size", [1, 2, 3, 511, 513, 2**15, 2**15 + 1, 100_003])
    def test_all_sizes_keep_the_direction(self, subject: Compressor, size: int) -> None:
        vector = gaussian(size)
        estimate = round_trip(subject, vector)
        if size >= 511:
            assert np.dot(estimate, vector) > 0.05 * np.dot(vector, vector)

    def test_a_message_is_a_function_of_vector_and_key(self, subject: Compressor) -> None:
        vector = gaussian(10_000)
        before = vector.copy()
        assert subject.encode(vector, 1) == subject.encode(vector, 1)
        assert np.array_equal(vector, before)

    def test_an_unbiased_estimate_has_the_vector_as_its_mean(self, subject: Compressor) -> None:
        # A Hadamard transform is close to a uniform rotation from some thousand entries on.
        vector, keys = gaussian(4096) ** 3, 200
        estimates = np.stack([round_trip(subject, vector, key) for key in range(keys)]).astype(np.float64)
        # Were the mean exact, its error would be what a single estimate's is, divided by their number.
        expected = np.mean([squared_error(vector, estimate) for estimate in estimates]) / keys
        bias = squared_error(vector, estimates.mean(0))
        assert (bias <= 1.5 * expected) == subject.unbiased

    @pytest.mark.parametrize(
        "vector", [np.zeros(0, np.float32), np.zeros(3), np.zeros((2, 2), np.float32), np.array([np.nan], np.float32)]
    )
    def test_other_vectors_are_refused(self, subject: Compressor, vector: np.ndarray) -> None:
        with pytest.raises(ValueError, match="vector_d: expected"):
            subject.encode(vector, 0)

    @FEWER
    @given(data=st.data())
    def test_corrupt_bodies_give_the_typed_error_or_some_vector(self, subject: Compressor, data: st.DataObject) -> None:
        vector = gaussian(3000)
        body = draw_damaged(data, bytes(subject._encode(vector, 0)))
        message = payload.pack(subject.id, vector.size, body, payload.context(0))
        with contextlib.suppress(PayloadError), np.errstate(over="raise", invalid="raise"):
            assert np.isfinite(subject.decode(message, vector.size, 0)).all()

    def test_truncated_and_other_messages_are_refused(self, subject: Compressor) -> None:
        vector = gaussian(1000)
        message = subject.encode(vector, 0)
        for damaged, dimension in ((message[:-1], 1000), (message, 1001), (message[:12], 1000), (b"", 1000)):
            with pytest.raises(PayloadError):
                subject.decode(damaged, dimension, 0)
        for size in (0, 1, 3, 20):
            with pytest.raises(PayloadError):
                subject._decode(memoryview(subject._encode(vector, 0)[:size]), 1000, 0)


def gaussian(size: int, seed: int = 0) -> np.ndarray:
    """A float32 vector of N(0, 1)."""
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def squared_error(vector: np.ndarray, estimate: np.ndarray) -> float:
    """Squared error as a share of the vector's squared norm."""
    return float(np.square(vector - estimate, dtype=np.float64).sum() / np.square(vector, dtype=np.float64).sum())


def round_trip(compressor: Compressor, vector: np.ndarray, key: int = 0) -> np.ndarray:
    """The estimate that comes back."""
    return compressor.decode(compressor.encode(vector, key), vector.size, key)
