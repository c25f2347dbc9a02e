"""What is particular to filters and to codes at the entropy."""

import struct

import numpy as np
import pytest
from pyfusefilter._xorfilter import ffi, lib

from deltamask import PayloadError, codecs
from deltamask.codecs import png
from deltamask.codecs.filters import FilterCodec

VIT_B = 35_389_440  # five blocks of ViT-B
FILTERS = [codec for codec in codecs.CODECS.values() if isinstance(codec, FilterCodec)]


def random_indices(share: float, dimension: int, seed: int = 0) -> np.ndarray:
    return np.flatnonzero(np.random.default_rng(seed).random(dimension) < share).astype(np.uint64)


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
