"""The embedded dataset: scikit-learn's handwritten digits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from fedsim.data.dataset import Dataset, Split
from fedsim.data.images import ArrayImages

_TEST_SHARE = 0.2
_SPLIT_SEED = 0  # the split is part of the dataset, not of a run


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
    # Imported here: scikit-learn is slow to import, and other datasets do not need it.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = bunch.target.astype(np.int64)
    parts = train_test_split(images, labels, test_size=_TEST_SHARE, random_state=_SPLIT_SEED, stratify=labels)
    return Split(ArrayImages(parts[0]), parts[2]), Split(ArrayImages(parts[1]), parts[3])
