"""The frame around everything that crosses between client and server.

Layout, little-endian, 12 bytes before the body::

    magic "dM" (2) | version (1) | kind (1) | dimension (4) | CRC-32 of the 8 bytes before it and the body (4) | body

``kind`` is the id of the codec that wrote the body, or :data:`TENSORS`. ``dimension`` is the number of elements that
the body speaks of. The receiver knows what it expects and compares; it never believes a size that it reads. Where a
body has a meaning only together with something that both sides have, such as the round's probabilities and stream, that
is part of what the checksum is of, and costs no byte.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np

Buffer: TypeAlias = "bytes | bytearray | memoryview"

_MAGIC = b"dM"
_VERSION = 1
_HEAD = struct.Struct("<2sBBI")
_CHECKSUM = struct.Struct("<I")
_KEY = struct.Struct("<Q")
_LENGTH = struct.Struct("<I")

#: Bytes before the body.
HEADER_BYTES = _HEAD.size + _CHECKSUM.size
#: ``kind`` of a body of dense tensors rather than of a codec's index set.
TENSORS = 0
#: ``kind`` of a body with the state of global probabilities, and of one with a round's sums.
STATE, SUMS = 32, 33
#: ``kind`` of a body with the numbers of the samples that were selected among shared ones.
SELECTED = 34
#: ``kind`` of a body of float32 scalars, which belong to directions that both sides draw.
SCALARS = 35
#: ``kind`` of a body with a client's upload and its weight, and of one with a round's uploads, which are passed on.
WEIGHTED, RELAY = 36, 37
#: ``kind`` of a message of a server to a client, and of what either keeps between rounds.
MESSAGE, SAVED_SERVER, SAVED_CLIENT = 38, 39, 40
#: Names of kinds for messages; codecs and compressors add theirs.
KIND_NAMES: dict[int, str] = {
    TENSORS: "tensors",
    STATE: "state",
    SUMS: "sums",
    SELECTED: "selected samples",
    SCALARS: "scalars",
    WEIGHTED: "weighted upload",
    RELAY: "relay",
    MESSAGE: "message",
    SAVED_SERVER: "saved server",
    SAVED_CLIENT: "saved client",
}
#: Largest dimension that a frame can name.
MAX_DIMENSION = 2**32 - 1


_SAMPLED = 1 << 16  # entries of an array that a context looks at, evenly spread


def context(key: int, *arrays: np.ndarray) -> bytes:
    """A short digest of what both sides have: a stream of random numbers, and arrays, of which some entries count."""
    digest = _KEY.pack(key % 2**64)
    for array in arrays:
        step = max(1, array.size // _SAMPLED)
        digest += _CHECKSUM.pack(zlib.crc32(np.ascontiguousarray(array.reshape(-1)[::step]).data))
    return digest


class PayloadError(ValueError):
    """Received bytes are not what was expected; the message says what was expected and what was found."""


def pack(kind: int, dimension: int, body: Buffer | Sequence[Buffer], context: bytes = b"") -> bytes:
    """Frame ``body``, which may be in parts, for a receiver that has the same ``context``.

    Raises:
        ValueError: ``kind`` or ``dimension`` does not fit its field.
    """
    if not 0 <= kind <= 255:
        raise ValueError(f"kind: found {kind}, allowed: 0 to 255")
    if not 0 <= dimension <= MAX_DIMENSION:
        raise ValueError(f"dimension: found {dimension}, allowed: 0 to {MAX_DIMENSION}")
    head = _HEAD.pack(_MAGIC, _VERSION, kind, dimension)
    parts = [body] if isinstance(body, (bytes, bytearray, memoryview)) else body
    checksum = zlib.crc32(context, zlib.crc32(head))
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return b"".join((head, _CHECKSUM.pack(checksum), *parts))  # the one copy


def unpack(data: Buffer, kind: int, dimension: int, context: bytes = b"") -> memoryview:
    """Check a frame against what the receiver expects and return its body, without copying it.

    Raises:
        PayloadError: truncated, not a frame, other version, other kind, other dimension, or a wrong checksum: it is
            damaged, or made for another context.
    """
    if len(data) < HEADER_BYTES:
        raise PayloadError(f"frame: expected at least {HEADER_BYTES} bytes, found {len(data)}")
    magic, version, found_kind, found_dimension = _HEAD.unpack_from(data)
    for name, found, expected in (
        ("magic", magic, _MAGIC),
        ("version", version, _VERSION),
        ("kind", found_kind, kind),
        ("dimension", found_dimension, dimension),
    ):
        if found != expected:
            raise PayloadError(f"frame {name}: expected {_shown(name, expected)}, found {_shown(name, found)}")
    view = memoryview(data)
    body = view[HEADER_BYTES:]
    (expected_crc,) = _CHECKSUM.unpack_from(data, _HEAD.size)
    found_crc = zlib.crc32(body, zlib.crc32(context, zlib.crc32(view[: _HEAD.size])))
    if found_crc != expected_crc:
        reason = ": damaged, or made with other probabilities or another stream" if context else ""
        raise PayloadError(f"frame checksum: expected {expected_crc:#010x}, found {found_crc:#010x}{reason}")
    return body


def kind_of(data: Buffer) -> int | None:
    """The kind that a frame names, for a receiver of several; None where there is no such byte."""
    return _HEAD.unpack_from(data)[2] if len(data) >= _HEAD.size else None


def join(parts: Iterable[bytes]) -> bytes:
    """Parts of a body, each after its length (uint32)."""
    return b"".join(_LENGTH.pack(len(part)) + part for part in parts)


def split(what: str, data: memoryview, count: int) -> list[memoryview]:
    """So many parts that :func:`join` has joined; ``what`` names them in errors.

    Raises:
        PayloadError: ``data`` is not so many parts.
    """
    parts = []
    for _ in range(count):
        if len(data) < _LENGTH.size or len(data) < (end := _LENGTH.size + _LENGTH.unpack_from(data)[0]):
            raise PayloadError(f"{what}: expected more bytes, found {len(data)}")
        parts.append(data[_LENGTH.size : end])
        data = data[end:]
    if data:
        raise PayloadError(f"{what}: expected its end, found {len(data)} more bytes")
    return parts


def _shown(name: str, value: int | bytes) -> str:
    return KIND_NAMES.get(value, repr(value)) if name == "kind" and isinstance(value, int) else repr(value)
