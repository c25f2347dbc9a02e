"""Fixtures that all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import hypothesis
import pytest
import ray

from fedsim import testing
from fedsim.config import Config

# Shared machines are slow at times, and a first call compiles: no deadlines.
hypothesis.settings.register_profile("fedsim", deadline=None)
hypothesis.settings.load_profile("fedsim")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Iterator[None]:
    """What the tests and the commands that they start keep of a node's cache is theirs alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDSIM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def small_config(tmp_path) -> Callable[..., Config]:
    """An experiment of a few seconds, with overrides, that shares its prefix features with all tests."""
    store = os.path.join(os.environ["FEDSIM_CACHE"], "features")
    return lambda *overrides: testing.small_config(tmp_path, f"cluster.feature_store={store}", *overrides)


@pytest.fixture(scope="session")
def ray_cluster(cache) -> Iterator[None]:
    """One local Ray cluster of two CPUs for all tests that need one."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
