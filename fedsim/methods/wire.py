"""Messages that methods share: dense tensors, whole masks, weighted uploads, and a round's uploads relayed."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from deltamask import codecs, payload
from deltamask.payload import Buffer, PayloadError

_WEIGHT, _ROUND = struct.Struct("<I"), struct.Struct("<II")
_UPLOAD = struct.Struct("<II")  # client, length


def pack_tensors(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Frame named arrays; the frame's dimension is their number of elements."""
    return _pack(tensors, sum(array.size for array in tensors.values()))


def unpack_tensors(data: bytes, shapes: Mapping[str, tuple[int, ...]], dtype: str = "float32") -> dict[str, np.ndarray]:
    """Arrays from :func:`pack_tensors`, when they have the expected names, shapes and type and are finite.

    Raises:
        PayloadError: the frame or an array is not as expected.
    """
    tensors = _unpack(data, sum(int(np.prod(shape)) for shape in shapes.values()))
    _check(tensors, {name: (tuple(shape), dtype) for name, shape in shapes.items()})
    return tensors


def pack_changed(tensors: Mapping[str, np.ndarray], known: Mapping[str, np.ndarray]) -> bytes:
    """Frame those arrays that differ from what the receiver knows, of the same names and shapes."""
    changed = {name: array for name, array in tensors.items() if not np.array_equal(array, known[name])}
    return _pack(changed, sum(array.size for array in known.values()))


def unpack_changed(data: bytes, known: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All arrays, those that :func:`pack_changed` left out as they are known.

    Raises:
        PayloadError: the frame or an array is not as expected.
    """
    tensors = _unpack(data, sum(array.size for array in known.values()))
    _check(tensors, {name: (a.shape, str(a.dtype)) for name, a in known.items() if name in tensors})
    return {**known, **tensors}


def _pack(tensors: Mapping[str, np.ndarray], elements: int) -> bytes:
    return payload.pack(payload.TENSORS, elements, save({k: np.ascontiguousarray(v) for k, v in tensors.items()}))


def _unpack(data: bytes, elements: int) -> dict[str, np.ndarray]:
    body = payload.unpack(data, payload.TENSORS, elements)
    try:
        tensors: dict[str, np.ndarray] = load(bytes(body))
    except (SafetensorError, ValueError, KeyError) as error:
        raise PayloadError(f"tensors: expected safetensors, found {error}") from error
    return tensors


def _check(tensors: Mapping[str, np.ndarray], expected: Mapping[str, tuple[tuple[int, ...], str]]) -> None:
    found = {name: (array.shape, str(array.dtype)) for name, array in tensors.items()}
    if found != expected:
        raise PayloadError(f"tensors: expected {expected}, found {found}")
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise PayloadError(f"tensors: expected finite values in {name!r}, found others")


def pack_mask(mask_d: np.ndarray, codec: str) -> bytes:
    """A whole mask, booleans of shape ``(d,)``, as a framed message: the set of its ones."""
    coder = codecs.get(codec)
    return payload.pack(coder.id, mask_d.size, coder.encode(np.flatnonzero(mask_d).astype(np.uint64), mask_d.size))


def unpack_mask(data: bytes, dimension: int, codec: str) -> np.ndarray:
    """The mask of :func:`pack_mask`. Raises PayloadError when the bytes are none."""
    coder = codecs.get(codec)
    mask_d = np.zeros(dimension, np.bool_)
    mask_d[coder.decode(payload.unpack(data, coder.id, dimension), dimension)] = True
    return mask_d


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
    """A round's uploads, of ascending clients, for whoever has the state before it: :func:`replay`."""
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
