"""Codecs: an index set to bytes and back, one registry.

A new codec is one file with a :class:`Codec` subclass and its line in :data:`CODECS`; ``README.md`` beside this file
explains how they work.
"""

from __future__ import annotations

from deltamask import payload
from deltamask.codecs.arithmetic import Arithmetic
from deltamask.codecs.base import Codec, check_indices
from deltamask.codecs.bitmap import Bitmap
from deltamask.codecs.bloom import Bloom
from deltamask.codecs.fuse import Fuse8, Fuse8Png, Fuse16, Fuse16Png
from deltamask.codecs.range import Range
from deltamask.codecs.xor import Xor8, Xor8Png, Xor16, Xor16Png

__all__ = ["CODECS", "Codec", "check_indices", "get"]

#: All codecs by name.
CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        Fuse8Png(),
        Fuse8(),
        Fuse16Png(),
        Fuse16(),
        Xor8Png(),
        Xor8(),
        Xor16Png(),
        Xor16(),
        Bloom(),
        Arithmetic(),
        Bitmap(),
        Range(),
    )
}

payload.KIND_NAMES.update({codec.id: codec.name for codec in CODECS.values()})


def get(name: str) -> Codec:
    """The codec called ``name``. Raises ValueError, with the known names, when there is none."""
    try:
        return CODECS[name]
    except KeyError:
        raise ValueError(f"codec: found {name!r}, allowed: {', '.join(CODECS)}") from None
