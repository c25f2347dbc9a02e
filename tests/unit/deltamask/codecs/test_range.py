"""The range coder: exact, and near the ideal length of its documented model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltamask import PayloadError, bernoulli_mask, codecs, flipped, logits
from deltamask.codecs import range as range_codec


def flips_of_training(dimension: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, int]:
    """Flips of scores that moved a little, as a client's training moves them: (indices, theta, key)."""
    rng = np.random.default_rng(seed)
    theta = rng.choice(np.array([0.01, 0.4, 0.9, 0.95, 0.99], np.float32), dimension)
    scores = np.log(theta / (1 - theta)) + rng.normal(0, 0.15, dimension)
    masks = [bernoulli_mask(p, seed) for p in (theta, (1 / (1 + np.exp(-scores))).astype(np.float32))]
    return flipped(*masks), theta, seed


@pytest.mark.parametrize("dimension", [1, 2, 1000, 300_000])
def test_range_coding_is_exact_and_needs_the_same_theta_and_key(dimension):
    codec = codecs.get("range")
    indices, theta, key = flips_of_training(dimension)
    body = codec.encode_given(indices, theta, key)
    assert np.array_equal(codec.decode_given(body, theta, key), indices)
    if dimension == 300_000:
        assert not np.array_equal(decode_or_nothing(codec, body, theta, key + 1), indices)


def decode_or_nothing(codec, body, theta, key):
    try:
        return codec.decode_given(body, theta, key)
    except PayloadError:
        return np.empty(0, np.uint64)


@settings(max_examples=60)
@given(st.data())
def test_range_coding_is_exact_for_any_theta_and_any_set(data):
    dimension, rng = data.draw(st.integers(0, 3000)), np.random.default_rng(data.draw(st.integers(0, 99)))
    kind = data.draw(st.sampled_from(["random", "bounds", "constant", "polarised"]))
    theta = {
        "random": rng.random(dimension),
        "bounds": rng.choice([0.0, 1.0], dimension),
        "constant": np.full(dimension, 0.95),
        "polarised": rng.choice([1e-7, 1 - 1e-7], dimension),
    }[kind].astype(np.float32)
    indices = np.flatnonzero(rng.random(dimension) < data.draw(st.sampled_from([0, 1e-3, 0.1, 0.9, 1]))).astype(
        np.uint64
    )
    codec = codecs.get("range")
    body = codec.encode_given(indices, theta, 5)
    assert np.array_equal(codec.decode_given(body, theta, 5), indices)
    assert len(body) <= len(codec.encode(indices, dimension))


def ideal_bits(indices, theta, key):
    """Length of the ideal code of the documented model, in floating point: three chances, mixed by their logits."""
    chances, counts, weights, total = {}, {}, np.full(3, 1 / 3), 0.0
    flips = np.isin(np.arange(theta.size, dtype=np.uint64), indices)
    for i, flip in enumerate(flips):
        bucket, distance = divmod(range_codec._context.py_func(theta, np.uint64(key), i), 48)
        models = [(bucket, distance), distance, (bucket, distance >= 24, "side")]
        z = np.array([np.log2(c / (1 - c)) for c in (chances.get(model, 1 / 64) for model in models)])
        cold = z[0] < -12 and counts.get(models[0], 0) >= 100
        p = 1 / (1 + 2.0 ** -(z[0] if cold else weights @ z))
        total -= np.log2(p if flip else 1 - p)
        if not cold:
            weights += (flip - p) * z * 256 * 2**24 / 2**25 / 2**16
        for model in models[:1] if cold else models:
            count, chance = counts.get(model, 0), chances.get(model, 1 / 64)
            chances[model], counts[model] = chance + (flip - chance) / (count + 2), min(count + 1, 4095)
    return total


def test_range_coding_pays_and_is_near_its_ideal_length():
    indices, theta, key = flips_of_training(60_000)
    body = codecs.get("range").encode_given(indices, theta, key)
    assert 8 * len(body) <= 1.02 * ideal_bits(indices, theta, key) + 40
    assert 8 * len(body) < 0.6 * 8 * len(codecs.get("arithmetic").encode(indices, theta.size))
    assert 8 * len(body) < 0.45 * 8 * len(codecs.get("fuse8+png").encode(indices, theta.size))


@pytest.mark.long
def test_range_coding_of_67_million_bits():
    theta = np.full(2**26, 0.95, np.float32)
    theta[::3] = 0.4
    indices = flipped(bernoulli_mask(theta + np.float32(0.002), 1), bernoulli_mask(theta, 1))
    codec = codecs.get("range")
    assert np.array_equal(codec.decode_given(codec.encode_given(indices, theta, 1), theta, 1), indices)


def test_integer_logarithms_follow_the_real_ones():
    for x in (1, 2, 3, 1000, 2**31 + 12345, 2**32 - 1, 2**32):
        assert logits.log2_32.py_func(np.int64(x)) / 32 == pytest.approx(np.log2(x), abs=0.09 + 1 / 32)
    assert logits.logit_32.py_func(2**31) == 0
    for chance in (1, 77, 2**18, 2**23, 2**24 - 1):
        stretched = range_codec._stretch.py_func(np.int64(chance))
        assert stretched / 256 == pytest.approx(np.log2(chance / (2**24 - chance)), abs=0.02)
        assert range_codec._SQUASH[stretched + 24 * 256] == pytest.approx(chance, rel=0.02)
    bins = [range_codec._bin.py_func(np.int64(distance)) for distance in range(2000)]
    assert bins[:8] == list(range(8))
    assert set(np.diff(bins)) == {0, 1}
    assert bins[-1] == 23


@pytest.mark.parametrize("body", [b"\x02abcd", b"\x01abcde", b"\x00" + bytes(40)])
def test_bodies_that_no_range_coder_wrote(body):
    with pytest.raises(PayloadError, match="range body"):
        codecs.get("range").decode(body, 100)
