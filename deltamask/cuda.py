"""Kernels for CUDA in Triton, which comes with torch there: the same bits as on a CPU, in one pass over memory."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024


def masked_weights(theta_d: Tensor, weights_d: Tensor, key: int) -> Tensor:
    """See :func:`deltamask.fused.masked_weights`."""
    out_d = torch.empty_like(weights_d)
    _masked_weights[_grid(out_d)](theta_d, weights_d, out_d, *_halves(key), out_d.numel(), BLOCK=_BLOCK)
    return out_d


def score_gradient(grad_d: Tensor, weights_d: Tensor, theta_d: Tensor) -> Tensor:
    """See :func:`deltamask.fused.score_gradient`."""
    out_d = torch.empty_like(theta_d)
    _score_gradient[_grid(out_d)](grad_d, weights_d, theta_d, out_d, out_d.numel(), BLOCK=_BLOCK)
    return out_d


def bernoulli_mask(theta_d: Tensor, key: int) -> Tensor:
    """See :func:`deltamask.sampling.bernoulli_mask`."""
    out_d = torch.empty(theta_d.shape, dtype=torch.uint8, device=theta_d.device)
    _bernoulli[_grid(out_d)](theta_d, out_d, *_halves(key), out_d.numel(), BLOCK=_BLOCK)
    return out_d.view(torch.bool)


def _grid(out_d: Tensor) -> tuple[int]:
    return (triton.cdiv(out_d.numel(), _BLOCK),)


def _halves(key: int) -> tuple[int, int]:
    """The upper and the lower 32 bits of a key as int32, whose type never depends on the value."""
    signed = [((key >> shift) & 0xFFFFFFFF) for shift in (32, 0)]
    high, low = (value - (1 << 32) if value >> 31 else value for value in signed)
    return high, low


@triton.jit
def _bits(offsets, high, low):  # type: ignore[no-untyped-def]
    """See :func:`deltamask.sampling.bits_at`; in [0, 2^32) as int64."""
    key = (high.to(tl.uint32).to(tl.uint64) << 32) | low.to(tl.uint32).to(tl.uint64)
    z = key + (offsets.to(tl.uint64) + 1) * 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    return ((z ^ (z >> 31)) >> 32).to(tl.int64)


@triton.jit
def _draw(theta, offsets, high, low):  # type: ignore[no-untyped-def]
    return _bits(offsets, high, low) < (theta * 4294967296.0).to(tl.int64)


@triton.jit(do_not_specialize=["high", "low"])
def _masked_weights(theta_ptr, weights_ptr, out_ptr, high, low, size, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < size
    theta = tl.load(theta_ptr + offsets, mask=inside, other=0.0)
    weights = tl.load(weights_ptr + offsets, mask=inside, other=0.0)
    drawn = _draw(theta, offsets, high, low)
    tl.store(out_ptr + offsets, weights * drawn.to(tl.float32), mask=inside)


@triton.jit
def _score_gradient(grad_ptr, weights_ptr, theta_ptr, out_ptr, size, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < size
    grad = tl.load(grad_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
    weights = tl.load(weights_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
    theta = tl.load(theta_ptr + offsets, mask=inside, other=0.0)
    tl.store(out_ptr + offsets, grad * weights * theta * (1.0 - theta), mask=inside)


@triton.jit(do_not_specialize=["high", "low"])
def _bernoulli(theta_ptr, out_ptr, high, low, size, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < size
    theta = tl.load(theta_ptr + offsets, mask=inside, other=0.0)
    tl.store(out_ptr + offsets, _draw(theta, offsets, high, low).to(tl.uint8), mask=inside)
