"""Fixtures that all tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import hypothesis
import pytest
import ray

from fedsim.config import Config, load_config

# Shared machines are slow at times, and a first call compiles: no deadlines.
hypothesis.settings.register_profile("fedsim", deadline=None)
hypothesis.settings.load_profile("fedsim")

_SMALL = {
    "rounds": 2,
    "partition": {"clients": 4},
    "model": {"masked_blocks": 1},
    "head": {"epochs": 2},
    "cluster": {"executor": "serial"},
}


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Iterator[None]:
    """What the tests and the commands that they start keep of a node's cache is theirs alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDSIM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def small_config(tmp_path) -> Callable[..., Config]:
    """An experiment of a few seconds, with overrides; another head has other keys, so it starts from its defaults."""

    def make(*overrides: str) -> Config:
        other_head = any(override.startswith("head.name=") for override in overrides)
        small = {key: group for key, group in _SMALL.items() if key != "head" or not other_head}
        return load_config(small, [f"output={tmp_path}", *overrides])

    return make


@pytest.fixture(scope="session")
def ray_cluster(cache) -> Iterator[None]:
    """One local Ray cluster of two CPUs for all tests that need one."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
