"""Fed-SB: of each low-rank update B R A only the small core R is trained and sent; A and B stay as they began."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from fedsim.methods.adapters import AdaptedNetwork, AdapterSettings
from fedsim.methods.dense import DenseMethod, DenseSettings
from fedsim.methods.updates import FlatFunction
from fedsim.models import TaskModel
from fedsim.settings import Experiment


class FedSbSettings(AdapterSettings, DenseSettings):
    """Parameters of :class:`FedSb`."""

    name: str = "fed-sb"
    rank: int = Field(16, ge=1, le=4096, description="rows of each core R, at most those of its weight matrix")


class CoreNetwork(AdaptedNetwork):
    """A frozen network whose chosen weights W become ``W + B R A``; all R are one vector.

    B and A are the first left and right singular vectors of W, so both are orthonormal and no more is sent for them.

    Args:
        module, names: as of :class:`AdaptedNetwork`.
        rank: number of rows and columns of R, or as many as the smaller side of W has.

    Attributes:
        bases: B of shape ``(rows, r)`` and A of shape ``(r, columns)`` of each weight.
        weights_d: the initial R, zeros: float32 of shape ``(sum of r * r,)``.
    """

    def __init__(self, module: nn.Module, names: list[str], rank: int) -> None:
        super().__init__(module, names)
        self.bases: list[tuple[Tensor, Tensor]] = []
        for shape, weight in zip(self.shapes, self.weights(), strict=True):
            b, a = singular_vectors(weight.detach().reshape(shape), rank)
            self.bases.append((b, a))
        cores = torch.zeros(sum(len(a) ** 2 for _, a in self.bases))
        self.register_buffer("weights_d", cores, persistent=False)

    def changes(self, weights_d: Tensor) -> Iterator[Tensor]:
        cores = weights_d.split([len(a) ** 2 for _, a in self.bases])
        return (b @ core.view(len(a), len(a)) @ a for (b, a), core in zip(self.bases, cores, strict=True))


def singular_vectors(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The first ``rank`` left singular vectors as columns and right ones as rows, or as many as there are.

    The largest entry of a left vector is positive: its sign is arbitrary, and all machines must agree on it.
    """
    u, _, vt = torch.linalg.svd(matrix.cpu().double(), full_matrices=False)
    u, vt = u[:, :rank], vt[:rank]
    signs = u.gather(0, u.abs().argmax(0, keepdim=True)).sign()
    return (u * signs).to(matrix), (vt * signs.T).to(matrix)


class FedSb(DenseMethod):
    """Singhal et al., "Fed-SB: A Silver Bullet for Extreme Communication Efficiency" (2025, arXiv 2502.15436).

    ``B mean(R_k) A`` is the mean of the clients' updates ``B R_k A``: averaging is exact at r * r numbers a matrix. The
    paper takes B, R and A from the singular value decomposition of the first full gradient, which costs data and a
    dense message before the first round. Here they are the singular vectors of the frozen weights, which every machine
    has, as in LoRA-XS (Bałazy et al., 2024) but without the singular values, and R begins at zero.
    """

    name = "fed-sb"
    summary = "low-rank updates B R A with A and B frozen; the small cores R averaged by samples, which is exact"
    Params: ClassVar[type[FedSbSettings]] = FedSbSettings
    train_defaults: ClassVar[Mapping[str, Any]] = {"lr": 1e-2}

    @classmethod
    def flatten(cls, params: FedSbSettings, experiment: Experiment, model: TaskModel) -> FlatFunction:
        return CoreNetwork(model.network, params.names(model), params.rank)
