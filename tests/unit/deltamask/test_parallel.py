"""Loops in threads: the same with any number of them, in several Python threads at once, and in a forked child."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import deltamask as dm
from deltamask import parallel
from deltamask.parallel import over_indices


@over_indices(grain=10)
def _square(start, stop, values_d, out_d):
    for i in range(start, stop):
        out_d[i] = values_d[i] * values_d[i]


@pytest.fixture
def threads():
    before = parallel._threads
    yield parallel.set_threads
    parallel.set_threads(before)


@pytest.mark.parametrize("size", [0, 1, 9, 10, 29, 30, 31, 1000])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_every_index_is_computed_once(threads, count, size):
    threads(count)
    values_d, out_d = np.arange(size), np.full(size, -1)
    _square(size, values_d, out_d)
    assert np.array_equal(out_d, values_d**2)


def test_less_than_a_thread_is_refused(threads):
    with pytest.raises(ValueError, match="threads: found 0, allowed: at least 1"):
        threads(0)


def _round_trip(seed: int) -> tuple[bytes, bytes]:
    """A client's message, and the mask that comes of it."""
    theta_d = np.full(200_000, 0.9, np.float32)
    trained_d = np.clip(theta_d + np.random.default_rng(seed).normal(0, 0.05, theta_d.size), 0, 1).astype(np.float32)
    payload = dm.encode(trained_d, theta_d, seed, kappa=1.0).payload
    return payload, dm.decode(payload, theta_d, seed).mask_d.tobytes()


@pytest.fixture
def expected(threads):
    """What one thread gives."""
    threads(1)
    found = [_round_trip(seed) for seed in range(4)]
    threads(2)
    return found


def test_a_forked_child_of_a_process_that_used_them_has_them_too(expected):
    assert _round_trip(0) == expected[0]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(_round_trip, range(4)).get(timeout=120) == expected


def test_several_python_threads_may_use_them_at_once(expected):
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(_round_trip, range(4))) == expected
