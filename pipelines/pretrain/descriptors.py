"""Targets of the backbone's pretraining: hand-made descriptors, whitened, so that they need no labels.

Oriented gradients and mean colours of a 4 x 4 grid (Dalal and Triggs 2005; as targets: MaskFeat, Wei et al., CVPR 2022)
and soft assignments of 6 x 6 patches to k-means centroids, pooled in quadrants (Coates, Lee and Ng, AISTATS 2011).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PATCH = 6
_CELL = 8
_ORIENTATIONS = 9
_CONTRAST = (10 / 255**2, 1e-3)  # keep flat patches and cells from being amplified
_ZCA = 0.1


class Descriptors(nn.Module):
    """Whitened principal components of the descriptors, fitted on images. Deterministic.

    Args:
        images: float32 in [0, 1] of shape ``(n, 3, 32, 32)``.
        seed: of the sampled patches and the first centroids.
        centroids: number of k-means centroids.
        components: length of the result.
    """

    patch_mean: Tensor
    patch_whitening: Tensor
    centroids: Tensor
    mean: Tensor
    projection: Tensor

    def __init__(self, images: Tensor, seed: int, centroids: int = 200, components: int = 192) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        patches = _patches(images[: len(images) // 2], stride=1)
        patches = patches[:, torch.randperm(patches.shape[1], generator=generator)[:18]].flatten(0, 1)
        variance, directions = torch.linalg.eigh(patches.T.cov())
        self.register_buffer("patch_mean", patches.mean(0))
        self.register_buffer("patch_whitening", directions @ torch.diag((variance + _ZCA) ** -0.5) @ directions.T)
        self.register_buffer("centroids", _k_means(self._whiten(patches), centroids, generator))
        raw = self._raw(images)
        mean, scale = raw.mean(0), raw.std(0) + 1e-6
        _, singular, axes = torch.linalg.svd((raw - mean) / scale, full_matrices=False)
        whitening = axes[:components].T / (singular[:components] / len(images) ** 0.5)
        self.register_buffer("mean", mean)
        self.register_buffer("projection", whitening / scale[:, None])

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Zero mean and unit variance on images like those of the fit; float32 of shape ``(n, components)``."""
        described: Tensor = (self._raw(images) - self.mean) @ self.projection
        return described

    def _raw(self, images: Tensor) -> Tensor:
        assignments = torch.cat([self._assign(part) for part in images.split(256)])
        return torch.cat([assignments, _gradients(images), F.avg_pool2d(images, _CELL).flatten(1)], 1)

    def _assign(self, images: Tensor) -> Tensor:
        """Nearness of each centroid against the average one ("triangle" activation), by quadrants."""
        distance = torch.cdist(self._whiten(_patches(images, stride=2)), self.centroids)
        nearer = F.relu(distance.mean(2, keepdim=True) - distance).transpose(1, 2)
        side = round(nearer.shape[2] ** 0.5)
        return F.adaptive_avg_pool2d(nearer.unflatten(2, (side, side)), 2).flatten(1)

    def _whiten(self, patches: Tensor) -> Tensor:
        whitened: Tensor = (patches - self.patch_mean) @ self.patch_whitening
        return whitened


def _patches(images: Tensor, stride: int) -> Tensor:
    """Contrast-normalised patches of shape ``(n, places, 108)``."""
    patches = F.unfold(images, _PATCH, stride=stride).transpose(1, 2)
    return (patches - patches.mean(2, keepdim=True)) / (patches.var(2, keepdim=True) + _CONTRAST[0]).sqrt()


def _k_means(points: Tensor, k: int, generator: torch.Generator, iterations: int = 10) -> Tensor:
    centroids = points[torch.randperm(len(points), generator=generator)[:k]]
    for _ in range(iterations):
        nearest = torch.cat([torch.cdist(part, centroids).argmin(1) for part in points.split(20_000)])
        counts = nearest.bincount(minlength=k).clamp(min=1)
        centroids = torch.zeros_like(centroids).index_add_(0, nearest, points) / counts[:, None]
    return centroids


def _gradients(images: Tensor) -> Tensor:
    """Histograms of oriented gradients of each cell, of unit length."""
    grey = images.mean(1, keepdim=True)
    across = F.pad(grey[..., 2:] - grey[..., :-2], (1, 1))
    down = F.pad(grey[:, :, 2:] - grey[:, :, :-2], (0, 0, 1, 1))
    strength = (across**2 + down**2).sqrt()
    position = torch.atan2(down, across) % torch.pi / torch.pi * _ORIENTATIONS
    half = _ORIENTATIONS / 2
    shares = [
        (1 - ((position - bin_ + half) % _ORIENTATIONS - half).abs()).clamp(min=0) for bin_ in range(_ORIENTATIONS)
    ]
    histograms = F.avg_pool2d(torch.cat([strength * share for share in shares], 1), _CELL)
    length = (histograms.pow(2).sum(1, keepdim=True) + _CONTRAST[1]).sqrt()
    return (histograms / length).flatten(1)
