"""The items that workers owe: each takes some of its own at a time, then some of whoever has most left."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import numpy as np


class Queue:
    """Items by the worker that owns them.

    Args:
        owed: the items of each worker, in the order to compute them.
        shared: whether a worker may take items of another.
        whole: whether a worker takes all of its own at once.
    """

    def __init__(self, owed: Iterable[Iterable[int]], *, shared: bool, whole: bool) -> None:
        self._owed = [list(items) for items in owed]
        self.shared, self._whole = shared, whole

    def take(self, worker: int) -> list[int]:
        """Half of what a worker owes, rounded up: few calls, and something left for others to take over.

        One that owes nothing takes half of what another has that has most; none when nobody has any.
        """
        own = self._owed[worker]
        if own:
            count = len(own) if self._whole or not self.shared else -(-len(own) // 2)
            taken, own[:count] = own[:count], []
            return taken
        if not self.shared:
            return []
        longest = max(self._owed, key=len)
        kept = len(longest) // 2
        taken, longest[kept:] = longest[kept:], []
        return taken

    def put_back(self, worker: int, items: list[int]) -> None:
        """Give back items that were taken and not computed; they come first."""
        self._owed[worker][:0] = items


def balanced_shards(sizes: np.ndarray, workers: int) -> np.ndarray:
    """The worker of each client, int64: largest clients first, each to the worker that has fewest samples."""
    owner = np.empty(sizes.size, np.int64)
    loads = [(0, worker) for worker in range(workers)]
    for client in np.argsort(-sizes, kind="stable"):
        load, worker = heapq.heappop(loads)
        owner[client] = worker
        heapq.heappush(loads, (load + int(sizes[client]), worker))
    return owner
