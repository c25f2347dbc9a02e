"""Contract suites that authors of plug-ins inherit in their tests: for each kind of member what it has to keep to.

A suite is a class with an attribute that names the member::

    from fedsim.testing import MethodContract

    class TestLastBlocks(MethodContract):
        method = "my_methods:LastBlocks"

pytest then runs its tests like any others. A member is given as in a configuration, by name or as
``package.module:Class``, or as the class itself; ``settings`` are keys of its group. Whoever has many variants
overrides the fixture that a suite names. Only this package of fedsim needs pytest and hypothesis.
"""

import pytest

_SUITES = ("_backbones", "_codecs", "_compressors", "_datasets", "_experiments", "_heads", "_methods", "_partitions")
pytest.register_assert_rewrite(*(f"{__name__}.{suite}" for suite in _SUITES))  # asserts that say what they found

from fedsim.testing._backbones import BackboneContract  # noqa: E402
from fedsim.testing._codecs import CodecContract  # noqa: E402
from fedsim.testing._compressors import CompressorContract  # noqa: E402
from fedsim.testing._datasets import DatasetContract  # noqa: E402
from fedsim.testing._experiments import RecordingExecutor, run_rounds, small_config  # noqa: E402
from fedsim.testing._heads import HeadContract  # noqa: E402
from fedsim.testing._methods import MethodContract  # noqa: E402
from fedsim.testing._partitions import LabelledSamples, PartitionContract  # noqa: E402

__all__ = [
    "BackboneContract",
    "CodecContract",
    "CompressorContract",
    "DatasetContract",
    "HeadContract",
    "LabelledSamples",
    "MethodContract",
    "PartitionContract",
    "RecordingExecutor",
    "run_rounds",
    "small_config",
]
