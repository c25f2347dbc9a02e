"""Shared randomness: a counter-based uniform that client and server compute alike.

The uniform of index ``i`` under a 64-bit ``key`` is the upper half of the ``i``-th output of the SplitMix64
generator started at ``key`` (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014).
It is a pure function of integers, so numpy, numba and torch give the same bits on every device, and any part
of the sequence can be computed on its own. A key is derived from names and numbers with :func:`stream_key`.

A probability ``theta`` (float32) is compared as the integer threshold ``floor(theta * 2**32)``: scaling a float32 by
a power of two is exact, so two devices that hold the same float32 draw the same mask bit.
"""

from __future__ import annotations

import functools
import hashlib
from types import ModuleType
from typing import overload

import numba
import numpy as np
import torch

from deltamask.parallel import over_indices

_MASK64 = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_SCALE = float(1 << 32)
_TORCH_CHUNK = 1 << 24  # bounds the int64 temporaries of the torch version to 128 MB each


def stream_key(*parts: int | str) -> int:
    """Derive the 64-bit key of a random stream from its coordinates, e.g. ``(seed, round, client, "reference")``.

    Raises:
        TypeError: a part is neither an int nor a str.
    """
    text = []
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, (int, str, np.integer)):
            raise TypeError(f"stream_key: expected int or str parts, found {type(part).__name__}")
        text.append(f"s{part}" if isinstance(part, str) else f"i{int(part)}")
    digest = hashlib.blake2b("\0".join(text).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


@numba.njit(inline="always")
def bits_at(key: np.uint64, index: np.uint64) -> np.uint64:
    z = key + (index + np.uint64(1)) * np.uint64(_GOLDEN)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_MIX_1)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_MIX_2)
    return (z ^ (z >> np.uint64(31))) >> np.uint64(32)


@numba.njit(inline="always")
def draws(key: np.uint64, theta: np.float32, index: np.uint64) -> np.bool_:
    """Whether the mask bit of an index is set."""
    return np.int64(bits_at(key, np.uint64(index))) < np.int64(theta * np.float32(_SCALE))


@over_indices()
def _uniform_kernel(start, stop, key, out_d):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(start), np.uint64(stop)):
        out_d[i] = bits_at(key, np.uint64(i))


@over_indices()
def _bernoulli_kernel(start, stop, key, theta_d, out_d):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(start), np.uint64(stop)):
        out_d[i] = draws(key, theta_d[i], i)


def kernel_key(key: int) -> np.uint64:
    """A key as compiled loops take it."""
    return np.uint64(key & _MASK64)


def cuda_kernels(theta_d: torch.Tensor) -> ModuleType | None:
    """:mod:`deltamask.cuda`; None where theta is elsewhere, or torch came without Triton."""
    return _triton_kernels() if theta_d.device.type == "cuda" else None


@functools.cache
def _triton_kernels() -> ModuleType | None:
    try:
        from deltamask import cuda
    except ImportError:
        return None
    return cuda


def uniform_bits(key: int, dimension: int) -> np.ndarray:
    """The uniforms of indices ``0 .. dimension - 1`` under ``key``, as uint32 of shape ``(dimension,)`` (numba)."""
    out_d = np.empty(dimension, np.uint32)
    _uniform_kernel(dimension, kernel_key(key), out_d)
    return out_d


def uniform_bits_numpy(key: int, dimension: int) -> np.ndarray:
    """:func:`uniform_bits` in plain numpy: slower, the reference for the others."""
    with np.errstate(over="ignore"):
        z = np.uint64(key & _MASK64) + np.arange(1, dimension + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(_MIX_1)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(_MIX_2)
        return ((z ^ (z >> np.uint64(31))) >> np.uint64(32)).astype(np.uint32)


def uniform_bits_torch(key: int, dimension: int, device: torch.device | str = "cpu", *, start: int = 0) -> torch.Tensor:
    """:func:`uniform_bits` of ``start .. start + dimension - 1`` on a torch device, as int64 in ``[0, 2**32)``."""
    z = torch.arange(start + 1, start + dimension + 1, dtype=torch.int64, device=device)
    z = z * _signed(_GOLDEN) + _signed(key)
    z = (z ^ _shift_right(z, 30)) * _signed(_MIX_1)
    z = (z ^ _shift_right(z, 27)) * _signed(_MIX_2)
    return _shift_right(z ^ _shift_right(z, 31), 32)


@overload
def bernoulli_mask(theta_d: np.ndarray, key: int) -> np.ndarray: ...
@overload
def bernoulli_mask(theta_d: torch.Tensor, key: int) -> torch.Tensor: ...
def bernoulli_mask(theta_d, key):  # type: ignore[no-untyped-def]
    """Draw ``m_i = [u_i < theta_i]`` with the uniforms of ``key``.

    Args:
        theta_d: float32 probabilities in [0, 1] of shape ``(d,)``, a numpy array or a torch tensor on any device.
        key: the stream, from :func:`stream_key`.

    Returns:
        Booleans of shape ``(d,)``, of the same kind and on the same device as ``theta_d``.

    Raises:
        TypeError: ``theta_d`` is not a one-dimensional float32 array or tensor.
    """
    if isinstance(theta_d, torch.Tensor):
        if theta_d.dtype != torch.float32 or theta_d.ndim != 1:
            raise TypeError(f"theta_d: expected float32 of shape (d,), found {theta_d.dtype} {tuple(theta_d.shape)}")
        if theta_d.device.type == "cpu":
            return torch.from_numpy(bernoulli_mask(theta_d.detach().numpy(), key))
        if (kernels := cuda_kernels(theta_d)) is not None:
            return kernels.bernoulli_mask(theta_d.detach(), key)
        out_d = torch.empty(theta_d.shape, dtype=torch.bool, device=theta_d.device)
        for start in range(0, theta_d.numel(), _TORCH_CHUNK):
            part = theta_d.detach()[start : start + _TORCH_CHUNK]
            bits = uniform_bits_torch(key, part.numel(), part.device, start=start)
            out_d[start : start + _TORCH_CHUNK] = bits < (part * _SCALE).to(torch.int64)
        return out_d
    if theta_d.dtype != np.float32 or theta_d.ndim != 1:
        raise TypeError(f"theta_d: expected float32 of shape (d,), found {theta_d.dtype} {theta_d.shape}")
    out = np.empty(theta_d.size, np.bool_)
    _bernoulli_kernel(out.size, kernel_key(key), theta_d, out)
    return out


def _signed(value: int) -> int:
    """The two's-complement int64 that has the bits of an unsigned 64-bit ``value``."""
    value &= _MASK64
    return value - (1 << 64) if value >> 63 else value


def _shift_right(z: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical right shift: torch's ``>>`` copies the sign bit of an int64."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
