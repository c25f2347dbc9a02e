"""The items that workers owe: each takes some of its own at a time, then some of whoever has most left."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any

import numpy as np


class Queue:
    """Items by the worker that owns them; values of items that come before others are wanted before theirs.

    Args:
        owed: the items of each worker, ascending.
        shared: whether a worker may take items of another.
        whole: whether a worker takes all of its own at once.
        group: items that are computed together; a worker takes some such groups.
        sizes: of items, to take the largest first, so that none of them is what everyone waits for at the end.

    Attributes:
        window: how many items there may be from the first one that is not done to the last one that is taken.
    """

    def __init__(
        self, owed: Iterable[Iterable[int]], *, shared: bool, whole: bool, group: int = 1, sizes: Any = None
    ) -> None:
        self._owed = [sorted(items, key=lambda item: (0 if sizes is None else -sizes[item], item)) for items in owed]
        self.shared, self._whole, self._group = shared, whole, group
        self.window = 1_000_000_000
        self._order = sorted(item for items in self._owed for item in items)
        self._done: set[int] = set()  # of those behind the first one that is not
        self._first = 0

    def __bool__(self) -> bool:
        """Whether something is left to take."""
        return any(self._owed)

    def take(self, worker: int) -> list[int]:
        """Half of what a worker owes, rounded up to groups: few calls, and something left for others to take over.

        One that owes nothing takes the first half of what another has that has most. None that is beyond the window.
        """
        last = self._order[min(self._first + self.window, len(self._order)) - 1] if self._order else -1
        own = source = self._owed[worker]
        if self.shared and not any(item <= last for item in own):
            source = max((items for items in self._owed if any(item <= last for item in items)), key=len, default=[])
        groups = -(-len(source) // (2 * self._group))
        count = len(source) if self._whole and source is own else groups * self._group
        taken = [item for item in source if item <= last][:count]
        left = set(taken)
        source[:] = [item for item in source if item not in left]
        return taken

    def done(self, item: int) -> None:
        """Note that an item that was taken has its value."""
        self._done.add(item)
        while self._first < len(self._order) and self._order[self._first] in self._done:
            self._done.remove(self._order[self._first])
            self._first += 1

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
