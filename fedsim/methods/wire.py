"""Dense tensors as bytes: safetensors in the frame that all messages share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from deltamask import payload
from deltamask.payload import PayloadError


def pack_tensors(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Frame named arrays; the frame's dimension is their number of elements."""
    elements = sum(array.size for array in tensors.values())
    return payload.pack(payload.TENSORS, elements, save({k: np.ascontiguousarray(v) for k, v in tensors.items()}))


def unpack_tensors(data: bytes, shapes: Mapping[str, tuple[int, ...]], dtype: str = "float32") -> dict[str, np.ndarray]:
    """Arrays from :func:`pack_tensors`, when they have the expected names, shapes and type and are finite.

    Raises:
        PayloadError: the frame or an array is not as expected.
    """
    elements = sum(int(np.prod(shape)) for shape in shapes.values())
    body = payload.unpack(data, payload.TENSORS, elements)
    try:
        tensors = load(bytes(body))
    except (SafetensorError, ValueError, KeyError) as error:
        raise PayloadError(f"tensors: expected safetensors, found {error}") from error
    found = {name: (array.shape, str(array.dtype)) for name, array in tensors.items()}
    expected = {name: (tuple(shape), dtype) for name, shape in shapes.items()}
    if found != expected:
        raise PayloadError(f"tensors: expected {expected}, found {found}")
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise PayloadError(f"tensors: expected finite values in {name!r}, found others")
    return tensors
