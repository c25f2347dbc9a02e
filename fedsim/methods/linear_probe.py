"""Federated linear probing: only the classifier head is trained and sent, float32, averaged by samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fedsim.errors import ConfigError
from fedsim.methods.base import ClientTask, Forward, P, Trained
from fedsim.methods.head import HeadClient, HeadServer
from fedsim.methods.phase import Method
from fedsim.methods.training import LocalTraining
from fedsim.models import TaskModel
from fedsim.settings import Experiment, MethodSettings, TrainSettings


class LinearProbeSettings(MethodSettings):
    """Parameters of :class:`LinearProbe`."""

    name: str = "linear-probe"

    @property
    def weighted(self) -> bool:
        return True


class LinearProbeClient(HeadClient[P]):
    """Trains the head on the embeddings of the unchanged backbone."""

    def settings(self) -> TrainSettings | None:
        """Of the local training: the ``train`` group, unless a subclass knows better."""
        return self.experiment.train

    def train(self, state: Any, task: ClientTask) -> Trained:
        self.model.load_head(state)
        embeddings = self.model.embed(task.features)
        head = self.model.head.requires_grad_(True)
        training = LocalTraining(self.settings(), self.experiment.seed)
        loss = training.run(head.parameters(), task, lambda x, step: head(x), inputs=embeddings)
        head.requires_grad_(False)
        return Trained(self.model.head_state(), loss)

    def personal(self, trained: Mapping[str, np.ndarray], state: Any, task: ClientTask) -> Forward:
        self.model.load_head(trained)
        return self.model.network


class LinearProbeServer(HeadServer[P]):
    """Averages heads by samples."""

    def __init__(self, params: P, experiment: Experiment, model: TaskModel) -> None:
        if model.train_head:
            raise ConfigError("head.name: found joint, allowed: others, as linear probing trains the head alone")
        super().__init__(params, experiment, model)

    def head(self, sums: dict[str, np.ndarray], weight: int) -> dict[str, np.ndarray]:
        return {name: total / weight for name, total in sums.items()}


class LinearProbe(Method):
    """FedAvg of the head alone."""

    name = "linear-probe"
    summary = "only the classifier head, float32, averaged by samples"
    Params = LinearProbeSettings
    train_defaults: ClassVar[Mapping[str, Any]] = {"epochs": 20, "lr": 0.03}
    Client, Server = LinearProbeClient, LinearProbeServer

    @classmethod
    def passes(cls, params: Any, experiment: Experiment, samples: int) -> float:
        """One pass gives the embeddings; the head's training on them is little."""
        return float(samples)
