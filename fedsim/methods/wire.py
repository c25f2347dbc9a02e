"""Messages that methods share: dense tensors and whole masks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from deltamask import codecs, payload
from deltamask.payload import PayloadError


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
