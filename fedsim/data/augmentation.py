"""Augmented views of training images, each by its own stream of random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from deltamask import stream_key
from fedsim.data.torchvision_import import import_torchvision

_SHARED_SEED = 0  # views that are kept belong to the dataset, so that runs of all seeds share their features
_PADDING = 1 / 8  # of an image's side, on each side, as 4 of CIFAR's 32 pixels


class Augmentation:
    """Random changes of images, by torchvision: ``flip``, ``crop`` and ``randaugment``, in the order given.

    A flip is of half of the views; a crop moves by up to an eighth of the side, over reflected borders (He et al.
    2016); RandAugment makes two changes of magnitude 9 (Cubuk et al. 2020). The random numbers of a view follow from
    seed, sample and view alone, whoever makes it.

    Args:
        names: of the changes.
        seed: of views that are made anew in each round; None for those that are kept, which all seeds share.
    """

    def __init__(self, names: Sequence[str], seed: int | None = None) -> None:
        self._names, self._seed = tuple(names), _SHARED_SEED if seed is None else seed
        self._transform: Any = None

    def __call__(self, pixels: np.ndarray, samples: np.ndarray, views: np.ndarray) -> np.ndarray:
        """Views of RGB images, uint8 of shape ``(n, size, size, 3)``; view 0 is the image itself.

        Args:
            pixels: the images, of the same shape and dtype.
            samples: their positions in the training split, int64 of shape ``(n,)``.
            views: which are wanted, likewise.
        """
        changed = pixels.copy()
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator, which is left as it was
            for index in np.flatnonzero(views).tolist():
                key = stream_key(self._seed, "augment", int(samples[index]), int(views[index]))
                torch.default_generator.manual_seed(key)  # and not those of GPUs, which are nobody's business here
                image = torch.from_numpy(pixels[index]).permute(2, 0, 1)
                changed[index] = self._made(image.shape[1])(image).permute(1, 2, 0).numpy()
        return changed

    def __str__(self) -> str:
        """Say what the kept views are, for the key of their features."""
        return "augment 1 " + " ".join(self._names)

    def _made(self, size: int) -> Any:
        if self._transform is None:
            import_torchvision()  # slow to import, and only needed here
            from torchvision.transforms import v2

            self._transform = v2.Compose(
                [
                    {
                        "flip": v2.RandomHorizontalFlip(),
                        "crop": v2.RandomCrop(size, round(_PADDING * size), padding_mode="reflect"),
                        "randaugment": v2.RandAugment(),
                    }[name]
                    for name in self._names
                ]
            )
        return self._transform
