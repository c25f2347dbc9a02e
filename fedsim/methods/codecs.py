"""The codecs of mask methods by name."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from deltamask.codecs import CODECS as _CODECS
from deltamask.codecs import Codec
from fedsim.registry import Registry

CODECS: Registry[Codec] = Registry("method.codec", _CODECS.values(), base=Codec, make=lambda found: found())


def _known(name: str) -> str:
    CODECS.get(name)
    return name


#: The type of a key that names a codec.
CodecName = Annotated[str, AfterValidator(_known)]
