"""The contract that every codec passes, and what is particular to filters."""

import contextlib
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyfusefilter._xorfilter import ffi, lib

from deltamask import PayloadError, bernoulli_mask, codecs, flipped, logits
from deltamask.codecs import png
from deltamask.codecs import range as range_codec
from deltamask.codecs.filters import FilterCodec

VIT_B = 35_389_440  # five blocks of ViT-B
FILTERS = [codec for codec in codecs.CODECS.values() if isinstance(codec, FilterCodec)]


@pytest.fixture(params=codecs.CODECS.values(), ids=codecs.CODECS)
def codec(request):
    return request.param


def random_indices(share: float, dimension: int, seed: int = 0) -> np.ndarray:
    return np.flatnonzero(np.random.default_rng(seed).random(dimension) < share).astype(np.uint64)


index_sets = st.integers(1, 5000).flatmap(
    lambda d: st.tuples(st.just(d), st.sets(st.integers(0, d - 1), max_size=200).map(sorted))
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(index_sets)
def test_round_trip_has_no_false_negatives(codec, case):
    dimension, members = case
    decoded = codec.decode(codec.encode(np.array(members, np.uint64), dimension), dimension)
    assert decoded.dtype == np.uint64
    assert set(members) <= set(decoded.tolist())
    assert (np.diff(decoded.astype(np.int64)) > 0).all()
    assert decoded.size == 0 or decoded[-1] < dimension
    if codec.exact or not members:
        assert decoded.tolist() == members


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 10, 100, 1000])
def test_every_size_and_the_full_set_round_trip(codec, size):
    members = np.arange(size, dtype=np.uint64)
    for dimension in (max(size, 1), size + 1000):
        assert np.isin(members, codec.decode(codec.encode(members, dimension), dimension)).all()


@pytest.mark.parametrize("share", [0.001, 0.01, 0.05])
def test_false_positives_are_as_rare_as_promised(codec, share):
    dimension = 2_000_000
    members = random_indices(share, dimension)
    decoded = codec.decode(codec.encode(members, dimension), dimension)
    extra = decoded.size - members.size
    expected = codec.false_positive_rate * (dimension - members.size)
    assert np.isin(members, decoded).all()
    assert abs(extra - expected) <= 5 * np.sqrt(expected) + 1e-9


def test_encoding_is_deterministic_and_leaves_its_input_alone(codec):
    members = random_indices(0.01, 100_000)
    before = members.copy()
    assert codec.encode(members, 100_000) == codec.encode(members, 100_000)
    assert np.array_equal(members, before)


@pytest.mark.parametrize(
    "indices",
    [np.array([3, 2], np.uint64), np.array([2, 2], np.uint64), np.array([10], np.uint64), np.array([1])],
    ids=["descending", "repeated", "too large", "not uint64"],
)
def test_other_index_sets_are_refused(codec, indices):
    with pytest.raises(ValueError, match="indices"):
        codec.encode(indices, 10)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_corrupt_bodies_give_the_typed_error_or_some_set(codec, data):
    dimension = 4000
    body = bytearray(codec.encode(random_indices(0.02, dimension), dimension))
    for position in data.draw(st.lists(st.integers(0, len(body) - 1), min_size=1, max_size=4)):
        body[position] ^= data.draw(st.integers(1, 255))
    damaged = bytes(body[: data.draw(st.integers(0, len(body)))])
    try:
        decoded = codec.decode(damaged, dimension)
    except PayloadError:
        return
    assert decoded.size <= dimension
    assert decoded.size == 0 or decoded[-1] < dimension


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_the_typed_error_or_some_set(codec, data):
    with contextlib.suppress(PayloadError):
        assert codec.decode(data, 1000).size <= 1000


def test_names_and_ids_are_unique():
    assert len({codec.id for codec in codecs.CODECS.values()}) == len(codecs.CODECS)
    assert all(0 < codec.id < 256 and codec.summary for codec in codecs.CODECS.values())
    with pytest.raises(ValueError, match=r"found 'fuse9', allowed: fuse8\+png, fuse8"):
        codecs.get("fuse9")


# Filters


@pytest.mark.parametrize("kind", ["binary_fuse8", "binary_fuse16", "xor8", "xor16"])
def test_query_kernel_agrees_with_the_c_core(kind):
    codec = codecs.get(kind.removeprefix("binary_"))
    dimension = 200_000
    members = random_indices(0.01, dimension)
    body = codec.encode(members, dimension)
    keys, seed = struct.unpack_from("<IQ", body)
    filter_c = ffi.new(f"{kind}_t *")
    assert getattr(lib, f"{kind}_allocate")(keys, filter_c)
    setattr(filter_c, "Seed" if "fuse" in kind else "seed", seed)
    ffi.memmove(filter_c.Fingerprints if "fuse" in kind else filter_c.fingerprints, body[12:], len(body) - 12)
    contain = getattr(lib, f"{kind}_contain")
    expected = [index for index in range(dimension) if contain(index, filter_c)]
    getattr(lib, f"{kind}_free")(filter_c)
    assert codec.decode(body, dimension).tolist() == expected


@pytest.mark.parametrize("share", [0.001, 0.01, 0.05])
def test_fuse8_at_the_size_of_five_vit_b_blocks(share):
    codec = codecs.get("fuse8+png")
    members = random_indices(share, VIT_B)
    decoded = codec.decode(codec.encode(members, VIT_B), VIT_B)
    found = np.zeros(VIT_B, bool)
    found[decoded] = True
    assert found[members].all()
    assert decoded.size - members.size == pytest.approx((VIT_B - members.size) / 256, rel=0.02)


@pytest.mark.parametrize(
    ("name", "bits_per_key"),
    [("fuse8", 9.04), ("fuse16", 18.08), ("xor8", 9.84), ("xor16", 19.68), ("bloom", 8 / np.log(2))],
)
def test_filter_sizes_are_those_of_the_literature(name, bits_per_key):
    members = random_indices(0.5, 2_000_000)
    body = codecs.get(name).encode(members, 2_000_000)
    assert 8 * len(body) / members.size == pytest.approx(bits_per_key, rel=0.02)


def test_the_image_form_removes_the_empty_slots():
    members = random_indices(0.01, VIT_B)
    raw, image = (len(codecs.get(name).encode(members, VIT_B)) for name in ("fuse8", "fuse8+png"))
    assert 0.92 < image / raw < 0.95


@pytest.mark.parametrize("share", [1e-5, 0.001, 0.01, 0.5, 0.95])
def test_arithmetic_codes_reach_the_entropy(share):
    members = random_indices(share, 2_000_000)
    p = members.size / 2_000_000
    entropy = -p * np.log2(p) - (1 - p) * np.log2(1 - p)
    body = codecs.get("arithmetic").encode(members, 2_000_000)
    assert 8 * len(body) / 2_000_000 == pytest.approx(entropy, rel=0.005, abs=2e-4)


def test_a_bitmap_has_no_bits_after_its_last_index():
    with pytest.raises(PayloadError, match="zeros after the last index"):
        codecs.get("bitmap").decode(b"\x01", 7)


@pytest.mark.parametrize("codec", FILTERS, ids=lambda codec: codec.name)
@pytest.mark.parametrize("keys", [0, 1000, 2**31, 2**32 - 1])
def test_claimed_key_counts_are_not_believed(codec, keys):
    dimension = 2**32 - 1  # decoding would take 4 GB: the claim must be refused before that
    body = codec.encode(np.arange(40, dtype=np.uint64), dimension)
    with pytest.raises(PayloadError, match=r"keys|fingerprints|image"):
        codec.decode(struct.pack("<I", keys) + body[4:], dimension)


def test_images_of_another_shape_are_refused_before_they_are_decoded():
    bomb = png.write(bytes(10_000_000))  # compresses to almost nothing
    with pytest.raises(PayloadError, match="image: expected 10 x 10 pixels"):
        png.read(bomb, 100)


def test_images_with_content_after_the_end_are_refused():
    data = png.write(bytes(range(1, 13)))
    with pytest.raises(PayloadError, match="zeros after"):
        png.read(data, 11)


# Range coder


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
