"""Operations of a client, counted once on the model: what a simulated device takes its time for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fedsim.models import TaskModel


class Flops:
    """Operations of one sample.

    Args:
        model: the backbone with its head.

    Attributes:
        prefix: of the frozen prefix, which a client computes once.
        blocks: of a forward pass through all after it.
    """

    def __init__(self, model: TaskModel) -> None:
        size = model.backbone.input_size
        with _counted() as counter:
            features = model.prefix_features(np.zeros((1, size, size, 3), np.uint8))
        self.prefix = float(counter.get_total_flops())
        with _counted() as counter, torch.no_grad():
            model.network(features)
        self.blocks = float(counter.get_total_flops())

    def client(self, samples: int, passes: float, prefix_passes: int) -> float:
        """Operations of a client in a round: so many forward passes of a sample, and of the prefix for each sample."""
        return self.blocks * passes + self.prefix * samples * prefix_passes


@contextmanager
def _counted() -> Iterator[FlopCounterMode]:
    """A counter, with attention as the products that it counts, and not as one operation that it does not know."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
