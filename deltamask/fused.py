"""The passes of a training step over all ``d`` entries, each in one loop: to masked weights, and back to the scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from deltamask.parallel import over_indices
from deltamask.sampling import bernoulli_mask, cuda_kernels, draws, kernel_key


def masked_weights(theta_d: Tensor, weights_d: Tensor, key: int) -> Tensor:
    """Weights times a mask ``[u < theta]`` with the uniforms of ``key``, of the weights' shape ``(d,)`` and type."""
    if theta_d.device.type == "cpu":
        out_d = torch.empty_like(weights_d)
        _mask(out_d.numel(), kernel_key(key), theta_d.numpy(), _numbers(weights_d), _numbers(out_d))
        return out_d
    kernels = cuda_kernels(theta_d)
    if kernels is None:
        return weights_d * bernoulli_mask(theta_d, key)
    return kernels.masked_weights(theta_d, weights_d, key)


def score_gradient(grad_d: Tensor, weights_d: Tensor, theta_d: Tensor) -> Tensor:
    """The gradient of scores from that of masked weights, straight through the draw: ``grad w theta (1 - theta)``.

    In float32, whatever the type of the weights.
    """
    if theta_d.device.type == "cpu":
        out_d = torch.empty_like(theta_d)
        _gradient(out_d.numel(), grad_d.float().numpy(), weights_d.float().numpy(), theta_d.numpy(), out_d.numpy())
        return out_d
    kernels = cuda_kernels(theta_d)
    if kernels is None:
        return (grad_d.float() * weights_d).mul_(theta_d).mul_(1 - theta_d)
    return kernels.score_gradient(grad_d, weights_d, theta_d)


class DrawnWeights(torch.autograd.Function):
    """Forward: :func:`masked_weights` of ``theta = sigmoid(scores)``. Backward: as if the mask were theta."""

    @staticmethod
    def forward(ctx: Any, scores_d: Tensor, weights_d: Tensor, key: int) -> Tensor:
        theta_d = torch.sigmoid(scores_d)
        ctx.save_for_backward(weights_d, theta_d)
        return masked_weights(theta_d, weights_d, key)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return score_gradient(grads[0].contiguous(), *ctx.saved_tensors), None, None


def _numbers(weights_d: Tensor) -> np.ndarray:
    """An array on a tensor's memory: of its numbers, or of the integers of the same 16 bits, as numpy has no bfloat16.

    A mask bit keeps either or makes it 0, and float32 holds every integer of 16 bits.
    """
    return weights_d.numpy() if weights_d.dtype == torch.float32 else weights_d.view(torch.int16).numpy()


@over_indices()
def _mask(start, stop, key, theta_d, weights_d, out_d):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(start), np.uint64(stop)):
        out_d[i] = weights_d[i] * np.float32(draws(key, theta_d[i], i))


@over_indices()
def _gradient(start, stop, grad_d, weights_d, theta_d, out_d):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(start), np.uint64(stop)):
        out_d[i] = grad_d[i] * weights_d[i] * theta_d[i] * (np.float32(1) - theta_d[i])
