"""The suites as authors of plug-ins use them: in a folder of their own, and they find what is wrong."""

import os
import subprocess
import sys

import pytest

PLUGINS = """
import numpy as np
from deltamask.codecs.bitmap import Bitmap
from fedsim.compression.none import NoCompression
from fedsim.data.digits import Digits
from fedsim.data.partition import Partitioner
from fedsim.heads.untrained import RandomHead
from fedsim.methods.linear_probe import LinearProbe
from fedsim.models.tiny_vit import TinyViTFamily


class Probe(LinearProbe):
    name = "probe"


class Head(RandomHead):
    name = "my-head"


class Halves(NoCompression):
    name, id = "halves", 200


class Bits(Bitmap):
    name, id = "bits", 60


class Rows(Digits):
    name = "rows"


class Vit(TinyViTFamily):
    name = "my-vit"


class Dealt(Partitioner):
    name, summary = "dealt", "one by one"

    @classmethod
    def assign(cls, samples, params, rng):
        return np.roll(np.arange(len(samples.labels)) % params.clients, int(rng.integers(7)))
"""
SUITES = """
import my_plugins
from fedsim.testing import *


class TestProbe(MethodContract):
    method = "my_plugins:Probe"
    others = ["train.epochs=5"]


class TestHead(HeadContract):
    head = my_plugins.Head


class TestHalves(CompressorContract):
    compressor = "my_plugins:Halves"
    settings = {"dtype": "float16"}


class TestBits(CodecContract):
    codec = "my_plugins:Bits"


class TestRows(DatasetContract):
    dataset = "my_plugins:Rows"


class TestVit(BackboneContract):
    backbone = "my_plugins:Vit"
    settings = {"random_weights": True}


class TestDealt(PartitionContract):
    partition = my_plugins.Dealt
"""
BROKEN = """
from deltamask.codecs.bitmap import Bitmap
from fedsim.testing import CodecContract


class Lossy(Bitmap):
    name, id = "lossy", 61

    def encode(self, indices, dimension):
        return super().encode(indices[1:], dimension)


class TestLossy(CodecContract):
    codec = Lossy
"""


@pytest.fixture
def pytest_in(tmp_path):
    """Runs pytest in a folder with these files, at a home of its own; returns what it said."""

    def run(files):
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        (tmp_path / "home").mkdir()
        path = os.pathsep.join([str(tmp_path), *sys.path])
        env = {key: value for key, value in os.environ.items() if not key.startswith(("FEDSIM_", "PYTEST_"))}
        env |= {"HOME": str(tmp_path / "home"), "PYTHONPATH": path}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "."]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    return run


def test_plugins_pass_and_nothing_is_written_to_the_cache_of_the_user(pytest_in, tmp_path):
    code, said = pytest_in({"my_plugins.py": PLUGINS, "test_my_plugins.py": SUITES})
    assert code == 0, said
    assert " passed" in said
    assert not (tmp_path / "home" / ".cache" / "fedsim").exists()


def test_what_is_broken_is_found_and_the_message_says_what_was_found(pytest_in):
    code, said = pytest_in({"test_lossy.py": BROKEN})
    assert code == 1, said
    assert "TestLossy::test_round_trip_has_no_false_negatives" in said
    assert "assert {" in said  # rewritten by pytest
