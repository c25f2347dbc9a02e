"""Every compressor keeps to the contract."""

import pytest

from deltamask import codecs
from fedsim.compression import COMPRESSORS, make_compressor
from fedsim.compression.deepreduce import DeepReduceSettings
from fedsim.compression.drive import DriveSettings
from fedsim.compression.eden import EdenSettings
from fedsim.compression.none import NoneSettings
from fedsim.compression.qsgd import QsgdSettings
from fedsim.compression.top_k import TopKSettings
from fedsim.testing import CompressorContract

VARIANTS = [
    *(compressor.Params() for compressor in COMPRESSORS),
    NoneSettings(dtype="float16"),
    QsgdSettings(levels=1, bucket=64),
    DriveSettings(scale="least-squares"),
    EdenSettings(rate=0.09),
    EdenSettings(rate=4),
    TopKSettings(share=1, dtype="float16"),
    DeepReduceSettings(values="qsgd"),
]


class TestCompressors(CompressorContract):
    @pytest.fixture(params=VARIANTS, ids=lambda params: " ".join(map(str, params.model_dump().values())))
    def subject(self, request):
        return make_compressor(request.param)


def test_names_and_ids_are_unique():
    assert len({compressor.id for compressor in COMPRESSORS}) == len(list(COMPRESSORS))
    assert all(64 <= compressor.id < 256 and compressor.summary for compressor in COMPRESSORS)
    assert not {compressor.id for compressor in COMPRESSORS} & {codec.id for codec in codecs.CODECS.values()}
