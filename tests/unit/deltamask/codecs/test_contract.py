"""Every codec keeps to the contract."""

import pytest

from deltamask import codecs
from fedsim.testing import CodecContract


class TestCodecs(CodecContract):
    @pytest.fixture(params=codecs.CODECS.values(), ids=codecs.CODECS)
    def subject(self, request):
        return request.param


def test_names_and_ids_are_unique():
    assert len({codec.id for codec in codecs.CODECS.values()}) == len(codecs.CODECS)
    assert all(0 < codec.id < 256 and codec.summary for codec in codecs.CODECS.values())
    with pytest.raises(ValueError, match=r"found 'fuse9', allowed: fuse8\+png, fuse8"):
        codecs.get("fuse9")
