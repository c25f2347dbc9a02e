"""Decoding of images, whatever their mode and size."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fedsim.data import Decoder
from fedsim.data.images import ArrayImages, FileImages
from tests.unit.fedsim.data.layouts import encoded, pixels, write_image


def grey16():
    return Image.fromarray(np.full((20, 30), 32768, np.uint16))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGB", (30, 20), (1, 2, 3)), (1, 2, 3)),
        (Image.new("L", (20, 30), 77), (77, 77, 77)),
        (Image.new("1", (20, 30), 1), (255, 255, 255)),
        (Image.new("RGBA", (20, 20), (255, 0, 0, 255)), (255, 0, 0)),
        (Image.new("RGBA", (20, 20), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("LA", (20, 20), (9, 255)), (9, 9, 9)),
        (Image.new("P", (20, 20), 0), (0, 0, 0)),
        (grey16(), (128, 128, 128)),
    ],
    ids=["rgb", "grey", "bits", "rgba", "transparent", "grey-alpha", "palette", "16-bit"],
)
@pytest.mark.parametrize("size", [8, 40])
def test_images_of_any_mode_and_size_become_rgb(tmp_path, image, expected, size):
    (tmp_path / "image.png").write_bytes(encoded(image))
    decoded, corrupt = Decoder(size, "bicubic", 1)(FileImages(tmp_path, ["image.png"]), np.array([0]))
    assert corrupt == []
    assert decoded.shape == (1, size, size, 3)
    assert tuple(decoded[0, size // 2, size // 2]) == expected


def test_the_shorter_side_is_resized_and_the_longer_one_cut():
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    decoded, _ = Decoder(20, "bilinear", 1)(ArrayImages(wide[None]), np.array([0]))
    assert (decoded == 255).all()


def test_corrupt_images_are_named_and_become_grey(tmp_path):
    write_image(tmp_path / "good.png", pixels(8, 8, 3))
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    images = FileImages(tmp_path, ["good.png", "cut.png", "empty.png", "gone.png"])
    decoded, corrupt = Decoder(8, "bilinear", 2)(images, np.arange(4))
    assert corrupt == [str(tmp_path / name) for name in ("cut.png", "empty.png", "gone.png")]
    assert (decoded[1:] == 128).all()
    assert decoded[0].std() > 0


def test_file_fingerprints_change_with_the_files(tmp_path):
    write_image(tmp_path / "a.png", pixels(8, 8, 3))
    before = FileImages(tmp_path, ["a.png"]).fingerprint()
    assert FileImages(tmp_path, ["a.png"]).fingerprint() == before
    write_image(tmp_path / "a.png", pixels(9, 9, 3))
    assert FileImages(tmp_path, ["a.png"]).fingerprint() != before


def test_images_that_claim_any_size_are_not_decoded():
    header = b"\x00\x00\x27\x11\x00\x00\x27\x11\x08\x00\x00\x00\x00"  # 10,001 x 10,001 pixels, grey
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    claims = b"\x89PNG\r\n\x1a\n" + chunk + b"\x00\x00\x00\x00IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    assert Decoder(8, "bilinear", 1)._decode(claims) is None


@pytest.mark.parametrize("shape", [(1, 20_000), (20_000, 1), (7, 3000)])
def test_long_images_are_cut_before_they_are_resized(shape):
    array = np.full((*shape, 3), 9, np.uint8)
    middle = tuple(slice(side // 2 - 3, side // 2 + 3) if side > 100 else slice(None) for side in shape)
    array[middle] = 200
    decoded = Decoder(224, "bilinear", 1)._decode(encoded(Image.fromarray(array)))
    assert decoded.shape == (224, 224, 3)
    assert decoded[112, 112].tolist() == [200] * 3
