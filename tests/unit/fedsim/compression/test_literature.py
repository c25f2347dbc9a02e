"""What the literature says of each compressor."""

import numpy as np
import pytest

from fedsim.compression import COMPRESSORS, make_compressor
from fedsim.compression.deepreduce import DeepReduceSettings
from fedsim.compression.drive import DriveSettings
from fedsim.compression.eden import EdenSettings, lloyd_max_centroids
from fedsim.compression.qsgd import QsgdSettings
from fedsim.compression.rotation import CHUNK, chunk_starts, rotate, rotate_back
from fedsim.compression.top_k import TopKSettings


def gaussian(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def error(vector: np.ndarray, estimate: np.ndarray) -> float:
    """Normalised squared error."""
    return float(np.square(vector - estimate, dtype=np.float64).sum() / np.square(vector, dtype=np.float64).sum())


def round_trip(compressor, vector: np.ndarray, key: int = 0) -> np.ndarray:
    return compressor.decode(compressor.encode(vector, key), vector.size, key)


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


def test_deepreduce_quantises_values_within_the_bound_of_qsgd():
    vector, sizes = gaussian(1_000_000) ** 3, {}
    floats = round_trip(make_compressor(DeepReduceSettings()), vector)
    for levels in (64, 256):
        compressor = make_compressor(DeepReduceSettings(values="qsgd", levels=levels))
        estimate = round_trip(compressor, vector)
        assert not estimate[floats == 0].any()
        assert 1e-4 < error(floats, estimate) < 512 / levels**2  # lemma 3.1 of QSGD, by bucket
        sizes[levels] = len(compressor.encode(vector, 0))
    half = len(make_compressor(DeepReduceSettings(dtype="float16")).encode(vector, 0))
    assert sizes[64] < sizes[256] < 0.75 * half


def test_keys_of_the_values_that_are_not_written_are_refused():
    for keys, name in (({"levels": 4}, "levels"), ({"values": "qsgd", "dtype": "float16"}, "dtype")):
        with pytest.raises(ValueError, match=rf"{name}: found .*, allowed: none, as it is used only where values is"):
            DeepReduceSettings(**keys)
