"""The contract that every compressor passes, and what the literature says of each."""

import contextlib

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deltamask import PayloadError, codecs
from fedsim.compression import COMPRESSORS, make_compressor
from fedsim.compression.drive import DriveSettings
from fedsim.compression.eden import EdenSettings, lloyd_max_centroids
from fedsim.compression.elias import read_sparse, write_sparse
from fedsim.compression.none import NoneSettings
from fedsim.compression.qsgd import QsgdSettings
from fedsim.compression.rotation import CHUNK, chunk_starts, rotate, rotate_back
from fedsim.compression.top_k import TopKSettings

VARIANTS = [
    *(compressor.Params() for compressor in COMPRESSORS),
    NoneSettings(dtype="float16"),
    QsgdSettings(levels=1, bucket=64),
    DriveSettings(scale="least-squares"),
    EdenSettings(rate=0.09),
    EdenSettings(rate=4),
    TopKSettings(share=1, dtype="float16"),
]


@pytest.fixture(params=VARIANTS, ids=lambda params: " ".join(map(str, params.model_dump().values())))
def compressor(request):
    return make_compressor(request.param)


def gaussian(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def error(vector: np.ndarray, estimate: np.ndarray) -> float:
    """Normalised squared error."""
    return float(np.square(vector - estimate, dtype=np.float64).sum() / np.square(vector, dtype=np.float64).sum())


def round_trip(compressor, vector: np.ndarray, key: int = 0) -> np.ndarray:
    return compressor.decode(compressor.encode(vector, key), vector.size, key)


vectors = hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-1e6, 1e6, width=32))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(vectors, st.integers(0, 2**64 - 1))
@example(np.array([2.0**-126] + 15 * [0.0], np.float32), 0)
def test_every_vector_has_a_finite_estimate_of_its_shape(compressor, vector, key):
    estimate = round_trip(compressor, vector, key)
    assert estimate.dtype == np.float32
    assert estimate.shape == vector.shape
    assert np.isfinite(estimate).all()
    if not vector.any():
        assert not estimate.any()


@pytest.mark.parametrize("size", [1, 2, 3, 511, 513, CHUNK, CHUNK + 1, 100_003])
def test_all_sizes_keep_the_direction(compressor, size):
    vector = gaussian(size)
    if size >= 511:
        assert np.dot(round_trip(compressor, vector), vector) > 0.05 * np.dot(vector, vector)


def test_a_message_is_a_function_of_vector_and_key(compressor):
    vector = gaussian(10_000)
    before = vector.copy()
    assert compressor.encode(vector, 1) == compressor.encode(vector, 1)
    assert np.array_equal(vector, before)


def test_an_unbiased_estimate_has_the_vector_as_its_mean(compressor):
    # A Hadamard transform is close to a uniform rotation from some thousand entries on.
    vector, keys = gaussian(4096) ** 3, 200
    estimates = np.stack([round_trip(compressor, vector, key) for key in range(keys)]).astype(np.float64)
    # Were the mean exact, its error would be what a single estimate's is, divided by their number.
    expected = np.mean([error(vector, estimate) for estimate in estimates]) / keys
    bias = error(vector, estimates.mean(0))
    assert (bias <= 1.5 * expected) == compressor.unbiased


@pytest.mark.parametrize(
    "vector", [np.zeros(0, np.float32), np.zeros(3), np.zeros((2, 2), np.float32), np.array([np.nan], np.float32)]
)
def test_other_vectors_are_refused(compressor, vector):
    with pytest.raises(ValueError, match="vector_d: expected"):
        compressor.encode(vector, 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_corrupt_bodies_give_the_typed_error_or_some_vector(compressor, data):
    vector = gaussian(3000)
    body = bytearray(compressor._encode(vector, 0))
    for position in data.draw(st.lists(st.integers(0, len(body) - 1), min_size=1, max_size=4)):
        body[position] ^= data.draw(st.integers(1, 255))
    damaged = memoryview(bytes(body[: data.draw(st.integers(0, len(body)))]))
    with contextlib.suppress(PayloadError):
        assert compressor._decode(damaged, vector.size, 0).shape == vector.shape


def test_truncated_other_and_infinite_messages_are_refused(compressor):
    vector = gaussian(1000)
    message = compressor.encode(vector, 0)
    for damaged, dimension in ((message[:-1], 1000), (message, 1001), (message[:12], 1000), (b"", 1000)):
        with pytest.raises(PayloadError):
            compressor.decode(damaged, dimension, 0)
    for size in (0, 1, 3, 20):
        with pytest.raises(PayloadError):
            compressor._decode(memoryview(compressor._encode(vector, 0)[:size]), 1000, 0)


def test_names_and_ids_are_unique():
    assert len({compressor.id for compressor in COMPRESSORS}) == len(list(COMPRESSORS))
    assert all(64 <= compressor.id < 256 and compressor.summary for compressor in COMPRESSORS)
    assert not {compressor.id for compressor in COMPRESSORS} & {codec.id for codec in codecs.CODECS.values()}


# The literature's constants


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (DriveSettings(), np.pi / 2 - 1),  # DRIVE, NeurIPS 2021
        (DriveSettings(scale="least-squares"), 1 - 2 / np.pi),
        (EdenSettings(rate=1), np.pi / 2 - 1),  # EDEN, ICML 2022: D / (1 - D) of the Lloyd-Max distortion D
        (EdenSettings(rate=2), 0.1175 / (1 - 0.1175)),
        (EdenSettings(rate=4), 0.009497 / (1 - 0.009497)),
    ],
    ids=str,
)
def test_errors_of_rotations_are_those_of_the_literature(params, expected):
    compressor = make_compressor(params)
    gauss = gaussian(1_000_000)
    assert error(gauss, round_trip(compressor, gauss)) == pytest.approx(expected, rel=0.02)
    heavy = gauss**5  # the rotation makes any vector Gaussian
    assert error(heavy, round_trip(compressor, heavy)) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("rate", [0.09, 0.5, 1, 2, 4])
@pytest.mark.parametrize("size", [983_040, 1_000_003])
def test_eden_sends_its_rate_without_padding(rate, size):
    message = make_compressor(EdenSettings(rate=rate)).encode(gaussian(size), 0)
    assert 8 * len(message) / size == pytest.approx(rate, rel=0.01, abs=0.003)


def test_sub_sampled_eden_has_the_error_of_both_steps():
    # E|x - x'|^2 = (1 + e) / p - 1 for sampling with probability p and a quantiser of error e.
    gauss, rate = gaussian(1_000_000), 0.25
    estimate = round_trip(make_compressor(EdenSettings(rate=rate)), gauss)
    assert error(gauss, estimate) == pytest.approx(np.pi / 2 / rate - 1, rel=0.02)


def test_lloyd_max_centroids_are_those_of_max():
    assert lloyd_max_centroids(1) == pytest.approx([-0.7979, 0.7979], abs=1e-4)
    assert lloyd_max_centroids(2)[2:] == pytest.approx([0.4528, 1.510], abs=1e-3)
    assert lloyd_max_centroids(3)[4:] == pytest.approx([0.2451, 0.7560, 1.344, 2.152], abs=1e-3)


def test_qsgd_stays_within_its_variance_and_size_bounds():
    vector = gaussian(1_000_000)
    for levels, bucket in ((1, 64), (4, 512), (16, 512)):
        compressor = make_compressor(QsgdSettings(levels=levels, bucket=bucket))
        bound = min(bucket / levels**2, bucket**0.5 / levels)  # lemma 3.1 of the paper
        assert error(vector, round_trip(compressor, vector)) < bound
        nonzeros = levels * (levels + bucket**0.5) / bucket  # its bound on the share of non-zero levels
        assert int.from_bytes(compressor._encode(vector, 0)[:4], "little") < nonzeros * vector.size


def test_qsgd_rounds_to_the_two_levels_beside_a_value():
    vector = gaussian(512)
    estimate = round_trip(make_compressor(QsgdSettings(levels=8)), vector)
    step = np.linalg.norm(vector) / 8
    assert (np.abs(estimate - vector) < step * 1.0001).all()
    assert np.allclose(estimate / step, np.round(estimate / step), atol=1e-4)


def test_rotation_is_orthonormal_and_undone_by_its_inverse():
    vector = gaussian(CHUNK + 300)
    rotated = rotate(vector, 7)
    assert np.linalg.norm(rotated) == pytest.approx(np.linalg.norm(vector), rel=1e-5)
    assert rotate_back(rotated, 7) == pytest.approx(vector, abs=1e-4)
    assert np.diff(chunk_starts(CHUNK + 300)).tolist() == [CHUNK, 256, 32, 8, 4]
    spike = np.eye(1, CHUNK, dtype=np.float32)[0]
    assert np.abs(rotate(spike, 7)) == pytest.approx(CHUNK**-0.5)


def test_top_k_sends_the_largest_at_their_entropy():
    vector = gaussian(1_000_000)
    compressor = make_compressor(TopKSettings(share=0.01))
    estimate = round_trip(compressor, vector)
    kept = np.flatnonzero(estimate)
    assert kept.size == 10_000
    assert np.array_equal(estimate[kept], vector[kept])
    assert np.abs(vector[kept]).min() >= np.abs(np.delete(vector, kept)).max()
    entropy = -(0.01 * np.log2(0.01) + 0.99 * np.log2(0.99))
    assert 8 * len(compressor.encode(vector, 0)) / vector.size == pytest.approx(entropy + 0.32, rel=0.01)


def test_deepreduce_sends_true_values_for_false_positives():
    vector = gaussian(1_000_000)
    estimate = round_trip(make_compressor(COMPRESSORS.get("deepreduce").Params()), vector)
    kept = np.flatnonzero(estimate)
    assert np.array_equal(estimate[kept], vector[kept])
    assert kept.size == pytest.approx(10_000 + 990_000 / 256, rel=0.02)


@given(hnp.arrays(np.int32, st.integers(1, 400), elements=st.integers(-(2**16), 2**16)))
def test_elias_codes_round_trip(levels):
    data = np.frombuffer(write_sparse(levels), np.uint8)
    assert np.array_equal(read_sparse(data, np.count_nonzero(levels), levels.size, 2**16), levels)


def test_elias_codes_are_those_of_the_table():
    # omega(1) = 0, omega(2) = 100, omega(17) = 10100100010 (Elias 1975): gap, sign, level.
    for index, level, bits in ((0, 1, "000"), (1, -2, "1001100"), (16, 1, "1010010001000")):
        levels = np.zeros(20, np.int32)
        levels[index] = level
        padded = bits + "0" * (-len(bits) % 8)
        assert write_sparse(levels) == int(padded, 2).to_bytes(len(padded) // 8, "big")
