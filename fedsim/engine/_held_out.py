"""Samples that clients hold out of training, and how the global model and their own do on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from deltamask import stream_key
from fedsim.config import Config
from fedsim.engine._evaluation import evaluated
from fedsim.engine._types import EvaluationSums, HeldOut
from fedsim.methods import ClientTask, MethodClient, Trained
from fedsim.methods.base import Forward


class HeldOutSamples:
    """The share ``evaluate.clients`` of each client's samples.

    Args:
        config: the experiment.
    """

    def __init__(self, config: Config) -> None:
        self._settings, self._rounds, self._seed = config.evaluate, config.rounds, config.seed
        self._precision = config.train.precision if config.train is not None else "float32"

    def split(self, client: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The samples that a client trains on and those that it holds out, by seed, in the order that they had.

        At least one of each; a client with a single sample trains on it.
        """
        if self._settings.clients is None:
            return rows, rows[:0]
        count = len(rows) - int(self.left(np.array(len(rows))))
        rng = np.random.Generator(np.random.Philox(key=stream_key(self._seed, "held-out", client)))
        held_out = np.zeros(len(rows), bool)
        held_out[rng.permutation(len(rows))[:count]] = True
        return rows[~held_out], rows[held_out]

    def left(self, sizes: np.ndarray) -> np.ndarray:
        """Numbers of samples that clients of such numbers train on, int64 of the same shape."""
        if self._settings.clients is None:
            return sizes
        return sizes - np.minimum(np.maximum(1, np.rint(self._settings.clients * sizes).astype(np.int64)), sizes - 1)

    def due(self, round_index: int) -> bool:
        """Whether clients of a round are evaluated; not those of the head's round, which get an untrained head."""
        return self._settings.clients is not None and round_index > 0 and self._settings.due(round_index, self._rounds)

    @torch.no_grad()
    def evaluate(
        self,
        method: MethodClient[Any],
        state: Any,
        task: ClientTask,
        trained: Trained,
        features: Tensor,
        labels: Tensor,
    ) -> HeldOut:
        """Evaluate the received model and the client's own on prefix features and labels of held-out samples."""
        received = self._sums(method.evaluations(state, task.round)["mean"](), features, labels)
        client = (received.samples, received.correct / received.samples, received.loss / received.samples)
        personal = method.personal(trained.value, state, task)
        if personal is None:
            return HeldOut(*client)
        own = self._sums(personal, features, labels)
        return HeldOut(*client, own.correct / own.samples, own.loss / own.samples)

    def _sums(self, forward: Forward, features: Tensor, labels: Tensor) -> EvaluationSums:
        size = self._settings.batch_size
        pieces = zip(features.split(size), labels.split(size), strict=True)
        first, *others = (evaluated(forward, *piece, self._precision) for piece in pieces)
        return sum(others, first)
