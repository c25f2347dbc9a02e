"""A dataset of any size that takes no memory: for benchmarks of the simulator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from deltamask import stream_key
from fedsim.data.dataset import Dataset, Split
from fedsim.data.images import Images, digest
from fedsim.settings import DataSettings, unless_default

_CLASSES, _SIZE, _NOISE = 10, 32, 60
_TRAIN, _TEST = 2000, 500


class SyntheticSettings(DataSettings):
    """Keys of the synthetic dataset."""

    noise: int = Field(
        _NOISE,
        ge=0,
        le=10_000,
        description="largest change of a pixel by noise; more is harder to learn",
        json_schema_extra=unless_default,
    )


class Synthetic(Dataset):
    """A blurred random picture a class under noise, 32 x 32 RGB, made when read; easy to learn."""

    name = "synthetic"
    summary = f"{_CLASSES} classes of noisy 32x32 patterns, data.train_samples ({_TRAIN}) of them; made when read"
    Params = SyntheticSettings

    @property
    def classes(self) -> Sequence[str]:
        return [f"pattern {index}" for index in range(_CLASSES)]

    def train(self) -> Split:
        return _split("train", self.params.train_samples or _TRAIN, self.params.noise)

    def test(self) -> Split:
        return _split("test", self.params.test_samples or _TEST, self.params.noise)


def _split(part: str, count: int, noise: int) -> Split:
    return Split(_Patterns(part, count, noise), np.arange(count) % _CLASSES)


class _Patterns(Images):
    def __init__(self, part: str, count: int, noise: int) -> None:
        self._part, self._count, self._noise = part, count, noise
        coarse = np.random.default_rng(0).integers(40, 216, (_CLASSES, 4, 4, 3))
        self._patterns = coarse.repeat(_SIZE // 4, 1).repeat(_SIZE // 4, 2)

    def __len__(self) -> int:
        return self._count

    def read(self, indices: np.ndarray) -> Sequence[np.ndarray | bytes]:
        return [self._draw(int(index)) for index in indices]

    def _draw(self, index: int) -> np.ndarray:
        rng = np.random.Generator(np.random.Philox(key=stream_key(0, "synthetic", self._part, index)))
        noise = rng.integers(-self._noise, self._noise + 1, (_SIZE, _SIZE, 3))
        image: np.ndarray = np.clip(self._patterns[index % _CLASSES] + noise, 0, 255).astype(np.uint8)
        return image

    def label(self, index: int) -> str:
        return f"synthetic {self._part} image {index}"

    def fingerprint(self) -> str:
        noise = "" if self._noise == _NOISE else f" {self._noise}"
        return digest(f"synthetic 1 {self._part} {self._count}{noise}".encode())
