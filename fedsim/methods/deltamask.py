"""DeltaMask: clients train mask probabilities and send the mask bits that changed, in a probabilistic filter."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

import deltamask as dm
from deltamask.delta import KappaSchedule
from fedsim.config import Config
from fedsim.methods.base import ClientTask, Method
from fedsim.methods.mask import MaskBroadcast, MaskClient, MaskConfig, MaskServer, Message, Received
from fedsim.models import TaskModel


class DeltaMaskConfig(MaskConfig):
    """Parameters of DeltaMask; the defaults are the paper's where they are known."""

    name: str = "deltamask"
    kappa: float = Field(0.8, gt=0, le=1, description="share of the changed mask bits to send, by relative entropy")
    kappa_schedule: KappaSchedule = Field("constant", description="constant, or cosine decay to kappa_final")
    kappa_final: float = Field(0.1, gt=0, le=1, description="kappa of the last round under the cosine schedule")
    aggregation: Literal["posterior", "coupled-difference"] = Field(
        "posterior", description="Beta posterior of the paper, or theta moved by the mean mask difference"
    )
    codec: str = Field("fuse8+png", description="how the indices are written; see `fedsim list`")

    @field_validator("codec")
    @classmethod
    def _known_codec(cls, value: str) -> str:
        from fedsim.methods import CODECS

        return CODECS.get(value).name


def _reference_key(seed: int, round_index: int, client: int) -> int:
    """The stream of the uniforms that a client and the server share in one round."""
    return dm.stream_key(seed, "reference", round_index, client)


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

    def encode(self, theta_k_d: np.ndarray, state: MaskBroadcast, task: ClientTask) -> Message:
        params = self._params
        update = dm.encode(
            theta_k_d,
            state.theta_d,
            _reference_key(self.config.seed, task.round, task.client),
            kappa=dm.kappa_at(task.round, self.config.rounds, params.kappa, params.kappa_schedule, params.kappa_final),
            codec=params.codec,
        )
        return Message(update.payload, update.delta_size, update.sent_size)


class _Server(MaskServer):
    def __init__(self, config: Config, model: TaskModel) -> None:
        super().__init__(config, model)
        assert isinstance(config.method, DeltaMaskConfig)
        self._codec = config.method.codec
        _compile_kernels(self._codec)

    def aggregate(self, params: MaskConfig) -> dm.GlobalProbabilities:
        assert isinstance(params, DeltaMaskConfig)
        if params.aggregation == "posterior":
            return super().aggregate(params)
        return dm.CoupledDifference(
            self.model.dimension,
            theta_init=params.theta_init,
            clip=params.clip,
            false_positive_rate=dm.codecs.get(params.codec).false_positive_rate,
        )

    def decode(self, round_index: int, client: int, data: bytes) -> Received:
        key = _reference_key(self.config.seed, round_index, client)
        decoded = dm.decode(data, self._posterior.theta_d, key, codec=self._codec)
        return Received(decoded.mask_d, decoded.reference_d, decoded.flips.size)


class DeltaMask(Method):
    """Tsouvalas, Asano, Saeed: "Federated Fine-Tuning of Foundation Models via Probabilistic Masking" (2311.17299)."""

    name = "deltamask"
    summary = "probabilistic masks; sends the changed mask bits in a probabilistic filter"
    Params: ClassVar[type[DeltaMaskConfig]] = DeltaMaskConfig
    Client, Server = _Client, _Server
