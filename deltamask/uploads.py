"""Uploads of a round around what a codec wrote: with a client's weight, and all of a round's, which are passed on."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from deltamask import payload
from deltamask.payload import Buffer, PayloadError

_WEIGHT, _ROUND = struct.Struct("<I"), struct.Struct("<II")
_UPLOAD = struct.Struct("<II")  # client, length


def add_weight(upload: bytes, samples: int) -> bytes:
    """An upload with its client's number of training samples, 16 bytes more."""
    return payload.pack(payload.WEIGHTED, 0, (_WEIGHT.pack(samples), upload))


def split_weight(upload: Buffer, weighted: bool) -> tuple[bytes, int]:
    """An upload as the method encoded it, and its weight: of :func:`add_weight`, or 1 where clients are not weighted.

    Raises:
        PayloadError: it has no weight, or none above 0.
    """
    if not weighted:
        return bytes(upload), 1
    body = payload.unpack(upload, payload.WEIGHTED, 0)
    weight = _WEIGHT.unpack_from(body)[0] if len(body) >= _WEIGHT.size else 0
    if not weight:
        raise PayloadError("weight: expected at least 1 sample, found none")
    return bytes(body[_WEIGHT.size :]), weight


def pack_relay(round_index: int, uploads: Sequence[tuple[int, bytes]]) -> bytes:
    """A round's uploads, of ascending clients, for whoever has the state before it to replay."""
    parts = [_UPLOAD.pack(client, len(upload)) + upload for client, upload in uploads]
    return payload.pack(payload.RELAY, 0, _ROUND.pack(round_index, len(uploads)) + b"".join(parts))


def unpack_relay(relay: bytes) -> tuple[int, list[tuple[int, bytes]]]:
    """The round and the uploads of :func:`pack_relay`.

    Raises:
        PayloadError: the bytes are no such message.
    """
    body = payload.unpack(relay, payload.RELAY, 0)
    if len(body) < _ROUND.size:
        raise PayloadError(f"relay: expected at least {_ROUND.size} bytes, found {len(body)}")
    (round_index, count), start = _ROUND.unpack_from(body), _ROUND.size
    uploads: list[tuple[int, bytes]] = []
    for _ in range(count):
        if len(body) < start + _UPLOAD.size:
            raise PayloadError(f"relay: expected {count} uploads, found {len(uploads)}")
        client, length = _UPLOAD.unpack_from(body, start)
        start += _UPLOAD.size + length
        uploads.append((client, bytes(body[start - length : start])))
    if start != len(body):
        raise PayloadError(f"relay: expected {start} bytes, found {len(body)}")
    return round_index, uploads
