"""Heads in closed form: clients send sums over their embeddings, from which the server computes the head.

The sums are those of all samples, however they are split, so the head is the same for every partition, to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, SerializeAsAny, field_validator

import deltamask as dm
from fedsim.compression import COMPRESSORS
from fedsim.compression.none import NoneSettings
from fedsim.errors import ConfigError
from fedsim.methods.base import ClientTask, Trained
from fedsim.methods.head import HeadClient, HeadServer
from fedsim.methods.updates import CompressedUpdates
from fedsim.methods.wire import pack_tensors, unpack_tensors
from fedsim.models import TaskModel
from fedsim.settings import CompressorSettings, Experiment, PhaseSettings, validate_member


class StatisticsSettings(PhaseSettings):
    """Keys of these heads: what makes their upload shorter than the triangle of a matrix as wide as embeddings are."""

    compressor: SerializeAsAny[CompressorSettings] = Field(
        default_factory=NoneSettings, description="group of the compressor of the scatter matrix"
    )
    projection: int | None = Field(
        None, ge=1, le=1_000_000, description="width of a seeded random projection of embeddings"
    )

    @field_validator("compressor", mode="before")
    @classmethod
    def _compressor_parameters(cls, value: Any) -> Any:
        return validate_member(value, COMPRESSORS, "none")


S = TypeVar("S", bound=StatisticsSettings)


def random_projection(params: StatisticsSettings, experiment: Experiment, model: TaskModel) -> np.ndarray | None:
    """The matrix of shape ``(embedding_size, width)`` that embeddings are multiplied with, drawn from the seed.

    Its entries are N(0, 1 / embedding_size). None where nothing is projected, as the width is no smaller.
    """
    size, width = model.backbone.embedding_size, params.projection
    if width is None or width >= size:
        return None
    rng = np.random.Generator(np.random.Philox(key=dm.stream_key(experiment.seed, "projection")))
    return rng.normal(0, size**-0.5, (size, width))


class _Layout:
    """Uploads: class counts and class sums as float32, then the upper triangle of the scatter within classes.

    The scatter is the Gram matrix without what the class sums say already, so its entries are small, and what a
    compressor does to them is small beside the whole. Shapes are ``(classes,)``, ``(classes, size)`` and
    ``(size * (size + 1) / 2,)``.
    """

    def __init__(self, params: StatisticsSettings, experiment: Experiment, model: TaskModel) -> None:
        #: See :func:`random_projection`.
        self.projection = random_projection(params, experiment, model)
        classes, size = model.head.weight.shape
        if self.projection is not None:
            size = self.projection.shape[1]
        self.shapes = {"counts": (classes,), "sums": (classes, size)}
        self.entries = size * (size + 1) // 2
        self._compressed = CompressedUpdates(params.compressor, experiment.seed, "statistics", self.entries)
        self._first = len(pack_tensors({name: np.zeros(shape, np.float32) for name, shape in self.shapes.items()}))

    def encode(self, statistics: tuple[np.ndarray, np.ndarray, np.ndarray], client: int) -> bytes:
        counts, sums, scatter = statistics
        return pack_tensors({"counts": counts, "sums": sums}) + self._compressed.encode(scatter, client)

    def decode(self, payload: bytes, client: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        known = unpack_tensors(payload[: self._first], self.shapes)
        scatter = self._compressed.decode(payload[self._first :], client)
        return known["counts"].astype(np.float64), known["sums"].astype(np.float64), scatter.astype(np.float64)


def between_classes(counts: Any, sums: Any) -> Any:
    """The part of a Gram matrix that class counts and sums imply: ``sum of s s^T / n``, of shape ``(size, size)``."""
    return (sums / np.maximum(counts, 1)[:, None]).T @ sums


class StatisticsClient(HeadClient[S]):
    """Sends the sums of the client's embeddings."""

    def __init__(self, params: S, experiment: Experiment, model: TaskModel) -> None:
        super().__init__(params, experiment, model)
        self._layout = _Layout(params, experiment, model)

    def train(self, state: Any, task: ClientTask) -> Trained:
        embeddings = self.model.embed(task.features).double()
        if self._layout.projection is not None:
            embeddings = embeddings @ torch.from_numpy(self._layout.projection).to(embeddings.device)
        member = F.one_hot(task.labels, len(self.model.head.weight)).double()
        counts, sums = (value.float().cpu().numpy() for value in (member.sum(0), member.T @ embeddings))
        gram = (embeddings.T @ embeddings).cpu().numpy()
        scatter = gram - between_classes(counts.astype(np.float64), sums.astype(np.float64))
        return Trained((counts, sums, scatter[np.triu_indices(len(gram))].astype(np.float32)))

    def encode(self, trained: Any, state: Any, task: ClientTask) -> dm.Update:
        return dm.Update(self._layout.encode(trained, task.client))


class StatisticsServer(HeadServer[S]):
    """Adds the sums up; a subclass solves for a head of the embeddings as they were summed."""

    def __init__(self, params: S, experiment: Experiment, model: TaskModel) -> None:
        if model.train_head:
            raise ConfigError("head.name: found joint, allowed: others, as only a frozen head has a closed form")
        self._layout = _Layout(params, experiment, model)
        super().__init__(params, experiment, model)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {**self._layout.shapes, "squares": (self._layout.entries,)}

    def decode(self, round_index: int, client: int, payload: bytes) -> dict[str, np.ndarray]:
        counts, sums, scatter = self._layout.decode(payload, client)
        upper = np.triu_indices(sums.shape[1])
        return {"counts": counts, "sums": sums, "squares": scatter + between_classes(counts, sums)[upper]}

    def solve(
        self, counts: np.ndarray, sums: np.ndarray, gram: np.ndarray, noise: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Weights of shape ``(classes, size)`` and bias from class counts, class sums and the whole Gram matrix.

        Compression put noise on the Gram matrix, whose eigenvalues are off by up to ``noise``.
        """
        raise NotImplementedError

    def head(self, sums: Mapping[str, np.ndarray], weight: int) -> dict[str, np.ndarray]:
        size = sums["sums"].shape[1]
        gram = np.zeros((size, size))
        gram[np.triu_indices(size)] = sums["squares"]
        gram += np.triu(gram, 1).T
        # What compression made of a positive semi-definite matrix is shifted until it is one again.
        lowest = np.linalg.eigvalsh(gram - between_classes(sums["counts"], sums["sums"]))[0]
        noise = max(0.0, -float(lowest))
        gram[np.diag_indices(size)] += noise
        weights, bias = self.solve(sums["counts"], sums["sums"], gram, noise)
        projection = self._layout.projection
        return {"weight": weights if projection is None else weights @ projection.T, "bias": bias}
