"""Prefix features that stay in memory, on the device that computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


class Resident:
    """Rows of a matrix on a device, each copied there when it is first asked for.

    Args:
        rows: how many there are.
        shape, dtype: of a row, as ``read`` gives it.
        device: where they are kept.
    """

    def __init__(self, rows: int, shape: tuple[int, ...], dtype: np.dtype, device: torch.device) -> None:
        self._rows = torch.empty((rows, *shape), dtype=torch.from_numpy(np.empty(0, dtype)).dtype, device=device)
        self._here = np.zeros(rows, np.bool_)

    def __call__(self, rows: np.ndarray, read: Callable[[np.ndarray], np.ndarray]) -> Tensor:
        """Some rows, on the device; ``read`` gives those that are not there yet."""
        missing = rows[~self._here[rows]]
        if missing.size:
            self._rows[self._positions(missing)] = torch.from_numpy(read(missing)).to(self._rows.device)
            self._here[missing] = True
        if rows.size and rows[-1] - rows[0] == rows.size - 1 and (np.diff(rows) == 1).all():
            return self._rows[rows[0] : rows[-1] + 1]  # not copied
        return self._rows[self._positions(rows)]

    def _positions(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(rows).to(self._rows.device)
