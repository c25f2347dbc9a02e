"""Views of training images that clients take: one that is kept, or a new one in each round."""

from __future__ import annotations

import numpy as np

from deltamask import stream_key
from fedsim.config import Config
from fedsim.data.augmentation import Augmentation


class Views:
    """Rows of prefix features by sample and view: view v of sample i of n is row ``v * n + i``.

    View 0 is the image itself. It is what the head is fitted on, and what held-out samples are evaluated on.

    Args:
        config: the experiment; ``data.augment`` and ``data.views`` say which views there are.
        samples: number of training samples, n.

    Attributes:
        augmentation: makes views; None where there are none.
        anew: whether each round has its own view, whose features are computed in it.
        kept: views that are kept, that of the image itself included.
    """

    def __init__(self, config: Config, samples: int) -> None:
        data, self._samples, self._seed = config.data, samples, config.seed
        self.anew = data.augments_anew
        self.kept = data.views or 1
        self.augmentation = Augmentation(data.augment, self._seed if self.anew else None) if data.augment else None

    def rows(self, samples: np.ndarray, round_index: int, client: int) -> np.ndarray:
        """Rows that a client trains on in a round of the method, int64 of the shape of ``samples``.

        Of kept views, each sample takes one at random, by seed, round, client and its place among the client's.
        """
        if self.augmentation is None:
            return samples
        if self.anew:
            return samples + round_index * self._samples
        rng = np.random.Generator(np.random.Philox(key=stream_key(self._seed, "view", round_index, client)))
        return samples + rng.integers(self.kept, size=len(samples)) * self._samples
