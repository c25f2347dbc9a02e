"""DeltaMask: clients train mask probabilities and send the mask bits that changed, in a probabilistic filter."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator

import deltamask as dm
from deltamask.delta import KappaSchedule, Selection
from fedsim.config import Config
from fedsim.methods.base import ClientTask, Method
from fedsim.methods.mask import MaskClient, MaskConfig, MaskServer, MaskState, Message, Received
from fedsim.models import TaskModel


class DeltaMaskConfig(MaskConfig):
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
    server_lr: float = Field(1.0, gt=0, le=1000, description="factor of the step of coupled differences")
    server_momentum: float = Field(0.0, ge=0, lt=1, description="momentum of coupled differences at the server")
    weighting: Literal["uniform", "samples"] = Field(
        "uniform", description="weights of the clients in coupled differences; the posterior counts all alike"
    )
    codec: str = Field("fuse8+png", description="how the indices are written; see `fedsim list`")

    @field_validator("codec")
    @classmethod
    def _known_codec(cls, value: str) -> str:
        from fedsim.methods import CODECS

        return CODECS.get(value).name

    @model_validator(mode="after")
    def _used_by_the_aggregation(self) -> DeltaMaskConfig:
        if self.aggregation == "posterior":
            for name, neutral in (("server_lr", 1.0), ("server_momentum", 0.0), ("weighting", "uniform")):
                if (found := getattr(self, name)) != neutral:
                    raise ValueError(f"{name}: found {found!r}, allowed: {neutral!r}, with aggregation 'posterior'")
        return self

    def probabilities(self, dimension: int, participation: float) -> dm.GlobalProbabilities:
        if self.aggregation == "posterior":
            return super().probabilities(dimension, participation)
        return dm.CoupledDifference(
            dimension,
            theta_init=self.theta_init,
            clip=self.clip,
            false_positive_rate=dm.codecs.get(self.codec).false_positive_rate,
            learning_rate=self.server_lr,
            momentum=self.server_momentum,
        )


def _reference_key(config: Config, round_index: int, client: int) -> int:
    """The stream of the uniforms that a client and the server share in one round."""
    assert isinstance(config.method, DeltaMaskConfig)
    if config.method.reference == "common":
        return dm.stream_key(config.seed, "reference", round_index)
    return dm.stream_key(config.seed, "reference", round_index, client)


def _compile_kernels(codec: str) -> None:
    """Encode and decode once, so that no later timing holds a compilation."""
    theta_k_d, theta_g_d = (np.full(64, theta, np.float32) for theta in (0.9, 0.5))
    dm.decode(dm.encode(theta_k_d, theta_g_d, key=0, codec=codec).payload, theta_g_d, key=0, codec=codec)


class _Client(MaskClient):
    def __init__(self, config: Config, model: TaskModel) -> None:
        super().__init__(config, model)
        assert isinstance(config.method, DeltaMaskConfig)
        self._params = config.method
        _compile_kernels(self._params.codec)

    def penalty(self, state: MaskState) -> Callable[[], torch.Tensor] | None:
        if not self._params.flip_penalty:
            return None
        theta_g_d = torch.from_numpy(state.theta_d).to(self.model.device)
        # A bit flips with probability |theta_k - theta_g|.
        return lambda: self._params.flip_penalty * (self._net.scores_d.sigmoid() - theta_g_d).abs().sum()

    def encode(self, theta_k_d: np.ndarray, state: MaskState, task: ClientTask) -> Message:
        params = self._params
        own = dm.stream_key(self.config.seed, "mask", task.round, task.client)
        update = dm.encode(
            theta_k_d,
            state.theta_d,
            _reference_key(self.config, task.round, task.client),
            kappa=dm.kappa_at(task.round, self.config.rounds, params.kappa, params.kappa_schedule, params.kappa_final),
            codec=params.codec,
            selection=params.selection,
            mask_key=own if params.reference == "independent" else None,
        )
        return Message(update.payload, update.delta_size, update.sent_size)


class _Server(MaskServer):
    def __init__(self, config: Config, model: TaskModel) -> None:
        super().__init__(config, model)
        assert isinstance(config.method, DeltaMaskConfig)
        self._params = config.method
        _compile_kernels(self._params.codec)

    def weight(self, samples: int) -> int:
        return samples if self._params.weighting == "samples" else 1

    def decode(self, round_index: int, client: int, data: bytes) -> Received:
        key = _reference_key(self.config, round_index, client)
        decoded = dm.decode(data, self._probabilities.theta_d, key, codec=self._params.codec)
        return Received(decoded.mask_d, decoded.reference_d, decoded.flips.size)


class DeltaMask(Method):
    """Tsouvalas, Asano, Saeed: "Federated Fine-Tuning of Foundation Models via Probabilistic Masking" (2311.17299)."""

    name = "deltamask"
    summary = "probabilistic masks; sends the changed mask bits in a probabilistic filter"
    Params: ClassVar[type[DeltaMaskConfig]] = DeltaMaskConfig
    Client, Server = _Client, _Server
