"""DeltaMask: clients train mask probabilities and send the mask bits that changed, in a probabilistic filter."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator

import deltamask as dm
from deltamask.delta import KappaSchedule
from fedsim.config import Config, MethodConfig
from fedsim.methods.base import Absorbed, ClientTask, Forward, MeanLoss, Method, MethodClient, MethodServer, Upload
from fedsim.methods.head import head_shapes
from fedsim.methods.optimizers import make_optimizer
from fedsim.models import TaskModel
from fedsim.wire import pack_tensors, unpack_tensors


class DeltaMaskConfig(MethodConfig):
    """Parameters of DeltaMask; the defaults are the paper's where they are known."""

    name: str = "deltamask"
    kappa: float = Field(0.8, gt=0, le=1, description="share of the changed mask bits to send, by relative entropy")
    kappa_schedule: KappaSchedule = Field("constant", description="constant, or cosine decay to kappa_final")
    kappa_final: float = Field(0.1, gt=0, le=1, description="kappa of the last round under the cosine schedule")
    codec: str = Field("fuse8+png", description="how the indices are written; see `fedsim list`")
    theta_init: float = Field(0.95, gt=0, lt=1, description="probability of every mask bit at the start")
    clip: float = Field(0.01, gt=0, lt=0.5, description="distance of the global probabilities from 0 and 1")
    prior: float = Field(1.0, ge=1, le=1000, description="alpha and beta of the Beta prior, lambda_0")

    @model_validator(mode="after")
    def _reachable_start(self) -> DeltaMaskConfig:
        if not self.clip <= self.theta_init <= 1 - self.clip:
            raise ValueError(f"theta_init: found {self.theta_init}, allowed: {self.clip} to {1 - self.clip}, by clip")
        return self

    @field_validator("codec")
    @classmethod
    def _known_codec(cls, value: str) -> str:
        from fedsim.methods import CODECS

        return CODECS.get(value).name


@dataclass(frozen=True)
class _Broadcast:
    theta_d: np.ndarray
    head: dict[str, np.ndarray]


def _reference_key(seed: int, round_index: int, client: int) -> int:
    """The stream of the uniforms that a client and the server share in one round."""
    return dm.stream_key(seed, "reference", round_index, client)


def _compile_kernels(codec: str) -> None:
    """Encode and decode once, so that no later timing holds a compilation."""
    theta_k_d, theta_g_d = (np.full(64, theta, np.float32) for theta in (0.9, 0.5))
    dm.decode(dm.encode(theta_k_d, theta_g_d, key=0, codec=codec).payload, theta_g_d, key=0, codec=codec)


class _Client(MethodClient):
    def __init__(self, config: Config, model: TaskModel) -> None:
        super().__init__(config, model)
        assert isinstance(config.method, DeltaMaskConfig)
        self._params = config.method
        self._net = dm.MaskedModule(model.network, model.masked_names).to(model.device)
        _compile_kernels(self._params.codec)

    def receive(self, broadcast: bytes) -> _Broadcast:
        tensors = unpack_tensors(broadcast, {"theta": (self.model.dimension,), **head_shapes(self.model)})
        theta_d = tensors.pop("theta")
        if not (theta_d.min() > 0 and theta_d.max() < 1):
            raise dm.PayloadError("theta: expected values strictly between 0 and 1, found others")
        return _Broadcast(theta_d, tensors)

    def train(self, state: _Broadcast, task: ClientTask) -> Upload:
        started = time.perf_counter()
        self.model.load_head(state.head)
        net = self._net
        net.load_theta(state.theta_d)
        optimizer = make_optimizer(self.config.train, [net.scores_d])
        losses = MeanLoss()
        for step, (x, y) in enumerate(task.batches(self.config, self.config.train.epochs)):
            key = dm.stream_key(self.config.seed, "train", task.round, task.client, step)
            loss = F.cross_entropy(net(x, net.sample(key)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.add(loss)
        theta_k_d = net.theta().cpu().numpy()
        train_loss = losses.value()
        trained = time.perf_counter()
        params = self._params
        update = dm.encode(
            theta_k_d,
            state.theta_d,
            _reference_key(self.config.seed, task.round, task.client),
            kappa=dm.kappa_at(task.round, self.config.rounds, params.kappa, params.kappa_schedule, params.kappa_final),
            codec=params.codec,
        )
        return Upload(
            update.payload,
            train_loss,
            trained - started,
            time.perf_counter() - trained,
            delta_size=update.delta_size,
            sent_size=update.sent_size,
        )

    def evaluations(self, state: _Broadcast, round_index: int) -> dict[str, Callable[[], Forward]]:
        theta_d = torch.from_numpy(state.theta_d).to(self.model.device)
        key = dm.stream_key(self.config.seed, "evaluation", round_index)
        multipliers: dict[str, Callable[[], torch.Tensor]] = {
            "mean": lambda: (theta_d > 0.5).float(),
            "expected": lambda: theta_d,
            "sampled": lambda: dm.bernoulli_mask(theta_d, key).float(),
        }

        def prepare(multiplier: Callable[[], torch.Tensor]) -> Forward:
            self.model.load_head(state.head)
            mask_d = multiplier()
            return lambda features: self._net(features, mask_d)

        return {name: lambda m=multiplier: prepare(m) for name, multiplier in multipliers.items()}  # type: ignore[misc]


class _Server(MethodServer):
    def __init__(self, config: Config, model: TaskModel) -> None:
        super().__init__(config, model)
        assert isinstance(config.method, DeltaMaskConfig)
        self._params = config.method
        self._posterior = dm.BetaPosterior(
            model.dimension,
            theta_init=self._params.theta_init,
            prior=self._params.prior,
            clip=self._params.clip,
            reset_every=round(1 / config.participation),
        )
        _compile_kernels(self._params.codec)

    def broadcast(self) -> bytes:
        # A client may never have been sampled before, so each broadcast holds the frozen head too.
        return pack_tensors({"theta": self._posterior.theta_d, **self.model.head_state()})

    def absorb(self, round_index: int, client: int, samples: int, payload: bytes) -> Absorbed:
        started = time.perf_counter()
        key = _reference_key(self.config.seed, round_index, client)
        decoded = dm.decode(payload, self._posterior.theta_d, key, codec=self._params.codec)
        decode_seconds = time.perf_counter() - started
        self._posterior.observe(decoded.mask_d)
        return Absorbed(decode_seconds, flips=decoded.flips.size)

    def finish_round(self) -> None:
        self._posterior.step()

    def state(self) -> dict[str, np.ndarray]:
        return self._posterior.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._posterior.restore(dict(state))

    def metrics(self) -> dict[str, float]:
        return {"bound_share": self._posterior.bound_share()}


class DeltaMask(Method):
    """Tsouvalas, Asano, Saeed: "Federated Fine-Tuning of Foundation Models via Probabilistic Masking" (2311.17299)."""

    name = "deltamask"
    summary = "probabilistic masks; sends the changed mask bits in a probabilistic filter"
    Params = DeltaMaskConfig
    Client, Server = _Client, _Server
