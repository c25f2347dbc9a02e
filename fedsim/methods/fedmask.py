"""FedMask: clients train a deterministic mask and send it, one bit a parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

import deltamask as dm
from fedsim.methods.base import ClientTask, Forward, Trained
from fedsim.methods.dp_sgd import private_training
from fedsim.methods.mask import CountedClient, MaskMethod, MaskState, WholeMaskServer
from fedsim.methods.mask_settings import CountedSettings
from fedsim.methods.training import LocalTraining
from fedsim.methods.wire import pack_mask
from fedsim.models import TaskModel
from fedsim.settings import Experiment

_CODEC = "bitmap"


class FedMaskSettings(CountedSettings):
    """Parameters of :class:`FedMask`."""

    name: str = "fedmask"
    score_init: float = Field(1.0, ge=-10, le=10, description="real-valued score of every mask bit at the start")
    threshold: float = Field(0.5, gt=0, lt=1, description="scores above it keep their weight")

    def probabilities(self, dimension: int, participation: float) -> dm.BetaPosterior:
        return dm.BetaPosterior(dimension)  # for its counts: of each bit's ones among the last round's masks

    def scores(self, counts: dm.GlobalProbabilities) -> np.ndarray:
        """Scores that local training starts from, float32 of shape ``(d,)``: the mean mask, ``score_init`` before."""
        assert isinstance(counts, dm.BetaPosterior)
        if not counts.trials:
            return np.full(counts.ones_d.size, self.score_init, np.float32)
        return (counts.ones_d / counts.trials).astype(np.float32)


class _Client(CountedClient[FedMaskSettings]):
    clips_gradients: ClassVar[bool] = True

    def __init__(self, params: FedMaskSettings, experiment: Experiment, model: TaskModel) -> None:
        super().__init__(params, experiment, model)
        self._net = dm.FlatNetwork(model.network, model.masked_names).to(model.device)
        self._training = LocalTraining(experiment.train, experiment.seed)
        self._private = private_training(experiment.train, experiment.privacy, experiment.seed)

    def _scores(self, state: MaskState) -> Tensor:
        self.model.load_head(state.head)
        return torch.tensor(self.params.scores(state.probabilities), device=self.model.device)

    def _mask(self, scores_d: Tensor) -> Tensor:
        return (scores_d > self.params.threshold).float()

    def train(self, state: MaskState, task: ClientTask) -> Trained:
        scores_d, weights_d = nn.Parameter(self._scores(state)), self._net.weights_d

        def logits(x: Tensor, step: int) -> Tensor:
            # Straight through the threshold: the added difference is zero, and its gradient is that of the scores.
            mask_d = self._mask(scores_d) + (scores_d - scores_d.detach())
            output: Tensor = self._net(x, weights_d * mask_d)
            return output

        if self._private is not None:
            at = lambda step: (weights_d * self._mask(scores_d), weights_d)  # noqa: E731
            loss = self._private.run(scores_d, task, self._net, at)
        else:
            loss = self._training.run([scores_d], task, logits)
        return Trained(self._mask(scores_d.detach()).bool().cpu().numpy(), loss)

    def encode(self, trained: np.ndarray, state: MaskState, task: ClientTask) -> dm.Update:
        return dm.Update(pack_mask(trained, _CODEC))

    def evaluations(self, state: MaskState, round_index: int) -> dict[str, Callable[[], Forward]]:
        return {"mean": lambda: self._forward(self._mask(self._scores(state)))}

    def personal(self, trained: np.ndarray, state: MaskState, task: ClientTask) -> Forward:
        self.model.load_head(state.head)
        return self._forward(torch.from_numpy(trained).to(self.model.device))

    def _forward(self, mask_d: Tensor) -> Forward:
        weights_d = self._net.weights_d * mask_d
        return lambda features: self._net(features, weights_d)


class _Server(WholeMaskServer[FedMaskSettings]):
    codec = _CODEC


class FedMask(MaskMethod):
    """Li et al., "FedMask: Joint Computation and Communication-Efficient Personalized Federated Learning" (2021).

    The paper personalises: it averages the entries that clients' masks have in common. Here, as in the comparisons of
    FedPM and DeltaMask, there is one global model: the clients' binary masks are averaged, unweighted, and the mean is
    where their scores start in the next round.
    """

    name = "fedmask"
    summary = "deterministic masks of thresholded scores, 1 bit a parameter"
    Params = FedMaskSettings
    Client, Server = _Client, _Server
