"""Fixtures that all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import hypothesis
import pytest
import ray
from moto.server import ThreadedMotoServer

from fedsim import testing
from fedsim.config import Config

# Shared machines are slow at times, and a first call compiles: no deadlines.
hypothesis.settings.register_profile("fedsim", deadline=None)
hypothesis.settings.load_profile("fedsim")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, default=1, help="times that each fault is tried")
    parser.addoption("--record", type=Path, help="folder to write what proofs found to, as Parquet and a table")


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
    ray.shutdown()  # what a run in this process started
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """The URI of a bucket on an S3 server of this process."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield "s3://bucket"
    server.stop()
