"""Loops over independent indices, in threads that survive a fork.

Numba's own parallel loops start GNU OpenMP's threads, and a child that is forked from a process with such threads dies
at its first loop; that is how data loaders and web servers start theirs. These loops are compiled to leave Python's
lock, and run in a pool of Python threads, which a forked child makes anew.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

import numba

A = TypeVar("A")
B = TypeVar("B")

_threads = len(os.sched_getaffinity(0))
_pool: tuple[int, int, ThreadPoolExecutor] | None = None  # the process and the number of threads that it is for


def set_threads(threads: int) -> None:
    """Set the number of threads of all loops of this process, at first one a CPU that it may use."""
    global _threads
    if threads < 1:
        raise ValueError(f"threads: found {threads}, allowed: at least 1")
    _threads = threads


def threads() -> int:
    """The number of threads of all loops of this process."""
    return _threads


def each(function: Callable[[A], B], items: Iterable[A]) -> list[B]:
    """Results of a function that leaves Python's lock, in threads; it may not use a loop over indices itself."""
    return [function(item) for item in items] if _threads == 1 else list(_executor().map(function, items))


def over_indices(grain: int = 1 << 15) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator: compile ``loop(start, stop, *arrays)``, to be called as ``loop(size, *arrays)``.

    Loop over ``range(np.uint64(start), np.uint64(stop))``: indices that may be negative are not vectorised, which makes
    loops of arithmetic ten times slower.

    Args:
        grain: indices from which on a thread is worth its start.
    """

    def decorate(loop: Callable[..., None]) -> Callable[..., None]:
        kernel = numba.njit(nogil=True, cache=True)(loop)

        @functools.wraps(loop)
        def run(size: int, *arguments: Any) -> None:
            parts = max(1, min(_threads, size // grain))
            stops = [size * (part + 1) // parts for part in range(parts)]
            others = [_executor().submit(kernel, start, stop, *arguments) for start, stop in pairwise(stops)]
            kernel(0, stops[0], *arguments)
            for other in others:
                other.result()

        return run

    return decorate


def _executor() -> ThreadPoolExecutor:
    global _pool
    if _pool is None or _pool[:2] != (os.getpid(), _threads):
        _pool = (os.getpid(), _threads, ThreadPoolExecutor(_threads, "deltamask"))
    return _pool[2]
