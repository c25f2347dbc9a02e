"""FedMask: clients train a deterministic mask and send it, one bit a parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

import deltamask as dm
from fedsim.methods.base import ClientTask, Forward, Method, MethodClient, MethodServer, Trained
from fedsim.methods.mask import pack_mask, unpack_mask
from fedsim.methods.training import LocalTraining
from fedsim.methods.wire import pack_tensors, unpack_tensors
from fedsim.models import TaskModel
from fedsim.settings import Experiment, MethodSettings

_CODEC = "bitmap"


class FedMaskSettings(MethodSettings):
    """Parameters of :class:`FedMask`."""

    name: str = "fedmask"
    score_init: float = Field(1.0, ge=-10, le=10, description="real-valued score of every mask bit at the start")
    threshold: float = Field(0.5, gt=0, lt=1, description="scores above it keep their weight")


class _Client(MethodClient[FedMaskSettings]):
    def __init__(self, params: FedMaskSettings, experiment: Experiment, model: TaskModel) -> None:
        super().__init__(params, experiment, model)
        self._net = dm.FlatNetwork(model.network, model.masked_names).to(model.device)
        self._training = LocalTraining(experiment.train, experiment.seed)

    def receive(self, broadcast: bytes) -> Any:
        return unpack_tensors(broadcast, {"scores": (self.model.dimension,), **self.model.head_shapes()})

    def _mask(self, scores_d: Tensor) -> Tensor:
        return (scores_d > self.params.threshold).float()

    def train(self, state: Any, task: ClientTask) -> Trained:
        self.model.load_head(state)
        scores_d = nn.Parameter(torch.tensor(state["scores"], device=self.model.device))

        def logits(x: Tensor, step: int) -> Tensor:
            # Straight through the threshold: the added difference is zero, and its gradient is that of the scores.
            mask_d = self._mask(scores_d) + (scores_d - scores_d.detach())
            output: Tensor = self._net(x, self._net.weights_d * mask_d)
            return output

        loss = self._training.run([scores_d], task, logits)
        return Trained(self._mask(scores_d.detach()).bool().cpu().numpy(), loss)

    def encode(self, trained: np.ndarray, state: Any, task: ClientTask) -> dm.Update:
        return dm.Update(pack_mask(trained, _CODEC))

    def evaluations(self, state: Any, round_index: int) -> dict[str, Callable[[], Forward]]:
        def mean() -> Forward:
            self.model.load_head(state)
            weights_d = self._net.weights_d * self._mask(torch.tensor(state["scores"], device=self.model.device))
            return lambda features: self._net(features, weights_d)

        return {"mean": mean}


class _Server(MethodServer[FedMaskSettings]):
    def __init__(self, params: FedMaskSettings, experiment: Experiment, model: TaskModel) -> None:
        super().__init__(params, experiment, model)
        self._scores_d = np.full(model.dimension, params.score_init, np.float32)
        self._begin()

    def _begin(self) -> None:
        self._ones_d, self._masks = np.zeros(self.model.dimension, np.int32), 0

    def broadcast(self) -> bytes:
        return pack_tensors({"scores": self._scores_d, **self.model.head_state()})

    def decode(self, round_index: int, client: int, payload: bytes) -> np.ndarray:
        return unpack_mask(payload, self.model.dimension, _CODEC)

    def accumulate(self, decoded: np.ndarray, samples: int) -> None:
        self._ones_d += decoded
        self._masks += 1

    def finish_round(self) -> None:
        self._scores_d = (self._ones_d / self._masks).astype(np.float32)
        self._begin()

    def state(self) -> dict[str, np.ndarray]:
        return {"scores": self._scores_d}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._scores_d = state["scores"].copy()


class FedMask(Method):
    """Li et al., "FedMask: Joint Computation and Communication-Efficient Personalized Federated Learning" (2021).

    The paper personalises: it averages the entries that clients' masks have in common. Here, as in the comparisons of
    FedPM and DeltaMask, there is one global model: the clients' binary masks are averaged, unweighted, and the mean is
    where their scores start in the next round.
    """

    name = "fedmask"
    summary = "deterministic masks of thresholded scores, 1 bit a parameter"
    Params = FedMaskSettings
    Client, Server = _Client, _Server
