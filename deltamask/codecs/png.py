"""Bytes as a lossless 8-bit grayscale image, the form in which DeltaMask sends its filter."""

from __future__ import annotations

import io
import math
import zlib

import numpy as np
from PIL import Image

from deltamask.payload import PayloadError

# DEFLATE cannot expand its input more than this.
_LARGEST_EXPANSION = 1032
# Pillow takes larger images for an attack.
_LARGEST_IMAGE = 89_000_000


def write(content: bytes) -> bytes:
    """``content`` row by row in a nearly square PNG, padded with zeros.

    Fingerprints are uniform but for empty slots, which are zero, so only entropy coding gains: Huffman coding alone is
    smaller and four times faster than a search for repeated strings.
    """
    if len(content) > _LARGEST_IMAGE:
        raise ValueError(f"image: found {len(content)} bytes, allowed: {_LARGEST_IMAGE}; use the codec without +png")
    height, width = _shape(len(content))
    pixels = np.zeros(height * width, np.uint8)
    pixels[: len(content)] = np.frombuffer(content, np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels.reshape(height, width)).save(out, "PNG", compress_type=zlib.Z_HUFFMAN_ONLY)
    return out.getvalue()


def read(data: bytes | memoryview, length: int) -> bytes:
    """The ``length`` bytes that :func:`write` stored.

    Raises:
        PayloadError: not a PNG, or not of the shape and mode that ``length`` bytes have.
    """
    height, width = _shape(length)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.size != (width, height) or image.mode != "L":
                raise PayloadError(
                    f"image: expected {width} x {height} pixels of mode L, "
                    f"found {image.width} x {image.height} of mode {image.mode}"
                )
            content = image.tobytes()
    except PayloadError:
        raise
    except Exception as error:  # Pillow's PNG reader raises OSError, SyntaxError, ValueError, struct.error and more
        raise PayloadError(f"image: expected a PNG, found {len(data)} bytes that are not: {error}") from error
    if any(content[length:]):
        raise PayloadError("image: expected zeros after the content, found other values")
    return content[:length]


def largest_content(data: bytes | memoryview) -> int:
    """Most bytes that an image of this many compressed bytes can hold."""
    return len(data) * _LARGEST_EXPANSION


def _shape(length: int) -> tuple[int, int]:
    width = max(math.isqrt(length), 1)
    return -(-length // width), width
