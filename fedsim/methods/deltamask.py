"""DeltaMask: clients train mask probabilities and send the mask bits that changed, in a probabilistic filter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

import deltamask as dm
from deltamask.delta import KappaSchedule, Selection
from fedsim.errors import ConfigError
from fedsim.methods.base import ClientTask
from fedsim.methods.codecs import CODECS, CodecName
from fedsim.methods.mask import MaskClient, MaskMethod, MaskServer, MaskState
from fedsim.methods.mask_settings import MaskSettings
from fedsim.methods.privacy import ClientPrivacy
from fedsim.models import TaskModel
from fedsim.settings import Experiment


class DeltaMaskSettings(MaskSettings):
    """Parameters of DeltaMask; the defaults are the paper's where they are known."""

    name: str = "deltamask"
    kappa: float = Field(0.8, gt=0, le=1, description="share of the changed mask bits to send, by selection")
    kappa_schedule: KappaSchedule = Field("constant", description="constant, or cosine decay to kappa_final")
    kappa_final: float = Field(0.1, gt=0, le=1, description="kappa of the last round under the cosine schedule")
    selection: Selection = Field(
        "kl", description="which to send: largest relative entropy, most of it per bit that the codec spends, or random"
    )
    reference: Literal["client", "common", "independent"] = Field(
        "client", description="uniforms of the masks: of each client, of all alike, or others for its two masks"
    )
    flip_penalty: float = Field(0.0, ge=0, le=1, description="nats of training loss for each expected flip")
    aggregation: Literal["posterior", "coupled-difference"] = Field(
        "posterior", description="Beta posterior of the paper, or theta moved by the mean mask difference"
    )
    server_lr: float = Field(1.0, gt=0, le=10, description="factor of the step of coupled differences")
    server_momentum: float = Field(0.0, ge=0, le=0.99, description="momentum of coupled differences at the server")
    weighting: Literal["uniform", "samples"] = Field(
        "uniform", description="weights of the clients in coupled differences; the posterior counts all alike"
    )
    codec: CodecName = Field("fuse8+png", description="how the indices are written")

    only_with: ClassVar[Mapping[str, tuple[str, tuple[Any, ...]]]] = {
        **MaskSettings.only_with,
        "kappa_final": ("kappa_schedule", ("cosine",)),
        "prior": ("aggregation", ("posterior",)),
        "reset_every": ("aggregation", ("posterior",)),
        "server_lr": ("aggregation", ("coupled-difference",)),
        "server_momentum": ("aggregation", ("coupled-difference",)),
        "weighting": ("aggregation", ("coupled-difference",)),
    }

    @model_validator(mode="after")
    def _votes_that_can_be_trimmed(self) -> DeltaMaskSettings:
        if self.trim and self.aggregation == "coupled-difference":
            if CODECS.get(self.codec).false_positive_rate:
                raise ValueError(f"trim: found {self.trim}, allowed: 0, as {self.codec} adds flips that are no votes")
            if self.weighting == "samples":
                raise ValueError(f"trim: found {self.trim}, allowed: 0 where weighting is samples")
        return self

    @property
    def depends_on_rounds(self) -> bool:
        return self.kappa_schedule != "constant"

    @property
    def weighted(self) -> bool:
        return self.aggregation == "coupled-difference" and self.weighting == "samples"

    def probabilities(self, dimension: int, participation: float) -> dm.GlobalProbabilities:
        if self.aggregation == "posterior":
            return super().probabilities(dimension, participation)
        return dm.CoupledDifference(
            dimension,
            theta_init=self.theta_init,
            clip=self.clip,
            false_positive_rate=CODECS.get(self.codec).false_positive_rate,
            learning_rate=self.server_lr,
            momentum=self.server_momentum,
        )


def _reference_key(params: DeltaMaskSettings, seed: int, round_index: int, client: int) -> int:
    """The stream of the uniforms that a client and the server share in one round."""
    if params.reference == "common":
        return dm.stream_key(seed, "reference", round_index)
    return dm.reference_key(seed, round_index, client)


class _Client(MaskClient[DeltaMaskSettings]):
    def __init__(self, params: DeltaMaskSettings, experiment: Experiment, model: TaskModel) -> None:
        super().__init__(params, experiment, model)
        self._most_flips = ClientPrivacy(experiment.privacy, experiment.seed).most_flips

    def penalty(self, state: MaskState) -> Callable[[torch.Tensor], torch.Tensor] | None:
        if not self.params.flip_penalty:
            return None
        theta_g_d = self.theta(state)
        # A bit flips with probability |theta_k - theta_g|.
        return lambda scores: self.params.flip_penalty * (scores.sigmoid() - theta_g_d).abs().sum()

    def encode(self, trained: torch.Tensor, state: MaskState, task: ClientTask) -> dm.Update:
        params, seed = self.params, self.experiment.seed
        kappa = dm.kappa_at(task.round, self.experiment.rounds, params.kappa, params.kappa_schedule, params.kappa_final)
        own = dm.stream_key(seed, "mask", task.round, task.client)
        return dm.encode(
            trained,
            state.theta_d,
            _reference_key(params, seed, task.round, task.client),
            kappa=kappa,
            codec=CODECS.get(params.codec),
            selection=params.selection,
            most=self._most_flips,
            mask_key=own if params.reference == "independent" else None,
            there=self.theta(state),
        )


class _Server(MaskServer[DeltaMaskSettings]):
    adds_noise: ClassVar[bool] = True

    def __init__(self, params: DeltaMaskSettings, experiment: Experiment, model: TaskModel) -> None:
        super().__init__(params, experiment, model)
        if self._privacy.most_flips == 0:
            found = experiment.privacy.client_clip
            raise ConfigError(f"privacy.client_clip: found {found}, allowed: at least 1, which is one flip of a mask")

    def decode(self, round_index: int, client: int, payload: bytes) -> dm.Decoded:
        key = _reference_key(self.params, self.experiment.seed, round_index, client)
        decoded = dm.decode(payload, self._probabilities.theta_d, key, codec=CODECS.get(self.params.codec))
        return self._privacy.limited(decoded, key)


class DeltaMask(MaskMethod):
    """Tsouvalas, Asano, Saeed: "Federated Fine-Tuning of Foundation Models via Probabilistic Masking" (2311.17299)."""

    name = "deltamask"
    summary = "probabilistic masks; sends the changed mask bits in a probabilistic filter"
    Params: ClassVar[type[DeltaMaskSettings]] = DeltaMaskSettings
    Client, Server = _Client, _Server

    @classmethod
    def compile_kernels(cls, params: DeltaMaskSettings) -> None:
        super().compile_kernels(params)
        codec = CODECS.get(params.codec)
        theta_k_d, theta_g_d = (np.full(64, theta, np.float32) for theta in (0.9, 0.5))
        update = dm.encode(theta_k_d, theta_g_d, key=0, kappa=0.5, codec=codec, selection=params.selection)
        dm.decode(update.payload, theta_g_d, key=0, codec=codec)
