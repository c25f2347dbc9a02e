"""The embedded dataset: scikit-learn's handwritten digits, without scikit-learn, which is slow to import."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from fedsim.data.dataset import Dataset, Split
from fedsim.data.images import ArrayImages

#: uint8 images, 255/16 times as bright as scikit-learn's, and labels: for training, and a stratified fifth for testing.
_EMBEDDED = Path(__file__).with_name("digits.npz")


class Digits(Dataset):
    """1,797 grey 8 x 8 images of ten digits (UCI Optical Recognition of Handwritten Digits); 1,437 train, 360 test."""

    name = "digits"
    summary = "1,797 handwritten digits, 8x8 grey, 10 classes; embedded, nothing is downloaded"

    @property
    def classes(self) -> Sequence[str]:
        return [str(digit) for digit in range(10)]

    def train(self) -> Split:
        return _splits()[0]

    def test(self) -> Split:
        return _splits()[1]


@cache
def _splits() -> tuple[Split, Split]:
    with np.load(_EMBEDDED) as stored:
        train, test = (
            Split(ArrayImages(stored[f"{name}_images"]), stored[f"{name}_labels"].astype(np.int64))
            for name in ("train", "test")
        )
    return train, test
