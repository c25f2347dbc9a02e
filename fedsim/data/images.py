"""Images of any format, size and mode, read in pieces and converted to what a backbone takes."""

from __future__ import annotations

import hashlib
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
from PIL import Image

#: How images are resized.
Interpolation = Literal["bilinear", "bicubic"]

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_GREY = 128  # what stands in for an image that cannot be decoded
_MAX_PIXELS = 100_000_000  # of an image; more is not decoded, as a file of a few bytes may claim any size
_MAX_RATIO = 16  # of an image's sides; what lies further out is cut before the image is resized, and after it anyway


class Images(ABC):
    """Random access to ``n`` images."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, indices: np.ndarray) -> Sequence[np.ndarray | bytes]:
        """Each image as a uint8 array of shape ``(h, w)`` or ``(h, w, channels)``, or as the bytes of an image file."""

    @abstractmethod
    def label(self, index: int) -> str:
        """The name of an image in a message, such as its path."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A digest that changes when the images change."""


class ArrayImages(Images):
    """Images of one size in memory, uint8 of shape ``(n, h, w)`` or ``(n, h, w, channels)``."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def read(self, indices: np.ndarray) -> Sequence[np.ndarray | bytes]:
        return list(self._array[indices])

    def label(self, index: int) -> str:
        return f"image {index}"

    def fingerprint(self) -> str:
        return digest(str(self._array.shape).encode(), np.ascontiguousarray(self._array))


class FileImages(Images):
    """Image files below a folder."""

    def __init__(self, root: str | os.PathLike[str], paths: Sequence[str]) -> None:
        self._root, self._paths = os.fspath(root), list(paths)

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, indices: np.ndarray) -> Sequence[np.ndarray | bytes]:
        return [self._read_file(self.label(int(index))) for index in indices]

    @staticmethod
    def _read_file(path: str) -> bytes:
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError:
            return b""  # counted like any file that is not an image

    def label(self, index: int) -> str:
        return os.path.join(self._root, self._paths[index])

    def fingerprint(self) -> str:
        return file_digest(self._root, self._paths)


class SubsetImages(Images):
    """A selection of other images, in the order of ``rows``, int64."""

    def __init__(self, images: Images, rows: np.ndarray) -> None:
        self._images, self._rows = images, rows

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, indices: np.ndarray) -> Sequence[np.ndarray | bytes]:
        return self._images.read(self._rows[indices])

    def label(self, index: int) -> str:
        return self._images.label(int(self._rows[index]))

    def fingerprint(self) -> str:
        return digest(self._images.fingerprint().encode(), self._rows)


class Decoder:
    """Turns raw images into RGB of one size, several at a time.

    Args:
        size: height and width of the result: the shorter side is resized to it, the longer one cut at both ends.
        interpolation: how to resize.
        threads: images decoded at a time.
    """

    def __init__(self, size: int, interpolation: Interpolation, threads: int) -> None:
        self._size, self._resampling = size, _RESAMPLING[interpolation]
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def __call__(self, images: Images, indices: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """The images, uint8 of shape ``(n, size, size, 3)``, and what those are called that cannot be decoded.

        In place of the latter stands plain grey.
        """
        decoded = list(self._pool.map(self._decode, images.read(indices)))
        bad = [images.label(int(index)) for index, image in zip(indices, decoded, strict=True) if image is None]
        grey = np.full((self._size, self._size, 3), _GREY, np.uint8)
        return np.stack([grey if image is None else image for image in decoded]), bad

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _decode(self, raw: np.ndarray | bytes) -> np.ndarray | None:
        try:
            if isinstance(raw, bytes):
                with Image.open(io.BytesIO(raw)) as image:
                    if image.width * image.height > _MAX_PIXELS:
                        return None
                    return np.asarray(self._fit(_to_rgb(_middle(image))))
            return np.asarray(self._fit(_to_rgb(Image.fromarray(raw[..., 0] if raw.shape[2:] == (1,) else raw))))
        except Exception:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and more on broken files
            return None

    def _fit(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        if (width, height) == (self._size, self._size):
            return image
        scale = self._size / min(width, height)
        width, height = (max(self._size, round(side * scale)) for side in (width, height))
        image = image.resize((width, height), self._resampling)
        left, top = (width - self._size) // 2, (height - self._size) // 2
        return image.crop((left, top, left + self._size, top + self._size))


def _middle(image: Image.Image) -> Image.Image:
    """The middle of an image that is far longer than wide, or wider than long; any other as it is."""
    width, height = (min(side, _MAX_RATIO * min(image.size)) for side in image.size)
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB: transparency over white, 16-bit and floating-point greys scaled to 8 bits."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        grey = np.asarray(image, np.float64)
        top = 1.0 if image.mode == "F" and grey.max() <= 1 else 65535.0 if grey.max() > 255 else 255.0
        return Image.fromarray(np.clip(grey * (255 / top), 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), layered).convert("RGB")
    return image.convert("RGB")


def digest(*parts: bytes | np.ndarray) -> str:
    """A short digest of bytes and arrays."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    return state.hexdigest()


def file_digest(root: str, paths: Sequence[str]) -> str:
    """A digest of the names, sizes and modification times of files below ``root``: no content is read."""
    lines = []
    for path in paths:
        stat = os.stat(os.path.join(root, path))
        lines.append(f"{path} {stat.st_size} {stat.st_mtime_ns}")
    return digest("\n".join(lines).encode())
