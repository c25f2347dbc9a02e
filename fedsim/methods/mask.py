"""What methods share that train a mask over frozen weights; each says what a client sends of it."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator

import deltamask as dm
from deltamask import codecs, payload
from fedsim.config import Config, MethodConfig
from fedsim.methods.base import Absorbed, ClientTask, Forward, MethodClient, MethodServer, Upload
from fedsim.methods.head import head_shapes
from fedsim.methods.training import make_optimizer, train_steps
from fedsim.models import TaskModel
from fedsim.wire import pack_tensors, unpack_tensors


class MaskConfig(MethodConfig):
    """Parameters of methods with a Beta posterior over probabilistic masks."""

    theta_init: float = Field(0.95, gt=0, lt=1, description="probability of every mask bit at the start")
    scores_init: Literal["constant", "normal"] = Field(
        "constant", description="theta_init everywhere, or sigmoid of N(0, 1), which halves pretrained weights"
    )
    clip: float = Field(0.01, gt=0, lt=0.5, description="distance of the global probabilities from 0 and 1")
    prior: float = Field(1.0, ge=1, le=1000, description="alpha and beta of the Beta prior, lambda_0")
    reset_every: int | None = Field(
        None, ge=1, description="rounds between returns to the prior; 1 / participation when not given"
    )

    @model_validator(mode="after")
    def _reachable_start(self) -> MaskConfig:
        if not self.clip <= self.theta_init <= 1 - self.clip:
            raise ValueError(f"theta_init: found {self.theta_init}, allowed: {self.clip} to {1 - self.clip}, by clip")
        return self


@dataclass(frozen=True)
class MaskBroadcast:
    """A received state: the global probabilities, float32 of shape ``(d,)``, and the head."""

    theta_d: np.ndarray
    head: dict[str, np.ndarray]


@dataclass(frozen=True)
class Message:
    """What a client sends; ``delta_size`` and ``sent_size`` as in :class:`Upload`."""

    payload: bytes
    delta_size: int | None = None
    sent_size: int | None = None


@dataclass(frozen=True)
class Received:
    """What the server reads of a message.

    Attributes:
        mask_d: the client's mask, booleans of shape ``(d,)``.
        reference_d: the mask that both sides knew; any, for methods without one.
        flips: number of bits that the message flipped in it; None for methods without one.
    """

    mask_d: np.ndarray
    reference_d: np.ndarray
    flips: int | None = None


def pack_mask(mask_d: np.ndarray, codec: str) -> bytes:
    """A whole mask, booleans of shape ``(d,)``, as a framed message: the set of its ones."""
    coder = codecs.get(codec)
    return payload.pack(coder.id, mask_d.size, coder.encode(np.flatnonzero(mask_d).astype(np.uint64), mask_d.size))


def unpack_mask(data: bytes, dimension: int, codec: str) -> np.ndarray:
    """The mask of :func:`pack_mask`. Raises PayloadError when the bytes are none."""
    coder = codecs.get(codec)
    mask_d = np.zeros(dimension, np.bool_)
    mask_d[coder.decode(payload.unpack(data, coder.id, dimension), dimension)] = True
    return mask_d


class MaskClient(MethodClient):
    """Trains the scores of a probabilistic mask; a subclass says what is sent of them."""

    def __init__(self, config: Config, model: TaskModel) -> None:
        super().__init__(config, model)
        self._net = dm.MaskedModule(model.network, model.masked_names).to(model.device)

    @abstractmethod
    def encode(self, theta_k_d: np.ndarray, state: MaskBroadcast, task: ClientTask) -> Message:
        """The upload from a client's probabilities after training, float32 of shape ``(d,)``."""

    def receive(self, broadcast: bytes) -> MaskBroadcast:
        tensors = unpack_tensors(broadcast, {"theta": (self.model.dimension,), **head_shapes(self.model)})
        theta_d = tensors.pop("theta")
        if not (theta_d.min() > 0 and theta_d.max() < 1):
            raise dm.PayloadError("theta: expected values strictly between 0 and 1, found others")
        return MaskBroadcast(theta_d, tensors)

    def train(self, state: MaskBroadcast, task: ClientTask) -> Upload:
        started = time.perf_counter()
        self.model.load_head(state.head)
        net = self._net
        net.load_theta(state.theta_d)

        def logits(x: torch.Tensor, step: int) -> torch.Tensor:
            key = dm.stream_key(self.config.seed, "train", task.round, task.client, step)
            output: torch.Tensor = net(x, net.sample(key))
            return output

        optimizer = make_optimizer(self.config.train, [net.scores_d])
        train_loss = train_steps(optimizer, task.batches(self.config, self.config.train.epochs), logits)
        theta_k_d = net.theta().cpu().numpy()
        trained = time.perf_counter()
        sent = self.encode(theta_k_d, state, task)
        encode_seconds = time.perf_counter() - trained
        return Upload(
            sent.payload,
            train_loss,
            trained - started,
            encode_seconds,
            delta_size=sent.delta_size,
            sent_size=sent.sent_size,
        )

    def evaluations(self, state: MaskBroadcast, round_index: int) -> dict[str, Callable[[], Forward]]:
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


class MaskServer(MethodServer):
    """Keeps the global probabilities; a subclass says what a message tells of a client's mask."""

    def __init__(self, config: Config, model: TaskModel) -> None:
        super().__init__(config, model)
        params = config.method
        assert isinstance(params, MaskConfig)
        self._posterior = self.aggregate(params)
        if params.scores_init == "normal":
            rng = np.random.Generator(np.random.Philox(key=dm.stream_key(config.seed, "scores")))
            theta_d = 1 / (1 + np.exp(-rng.standard_normal(model.dimension)))
            self._posterior.theta_d = np.clip(theta_d, params.clip, 1 - params.clip).astype(np.float32)

    def aggregate(self, params: MaskConfig) -> dm.GlobalProbabilities:
        """What keeps the global probabilities: the Beta posterior, unless a subclass knows better."""
        return dm.BetaPosterior(
            self.model.dimension,
            theta_init=params.theta_init,
            prior=params.prior,
            clip=params.clip,
            reset_every=params.reset_every or round(1 / self.config.participation),
        )

    @abstractmethod
    def decode(self, round_index: int, client: int, data: bytes) -> Received:
        """A client's mask.

        Raises:
            PayloadError: the bytes are not an upload of this method.
        """

    def broadcast(self) -> bytes:
        # A client may never have been sampled before, so each broadcast holds the frozen head too.
        return pack_tensors({"theta": self._posterior.theta_d, **self.model.head_state()})

    def absorb(self, round_index: int, client: int, samples: int, payload: bytes) -> Absorbed:
        started = time.perf_counter()
        received = self.decode(round_index, client, payload)
        decode_seconds = time.perf_counter() - started
        self._posterior.observe(received.mask_d, received.reference_d)
        return Absorbed(decode_seconds, flips=received.flips)

    def finish_round(self) -> None:
        self._posterior.step()

    def state(self) -> dict[str, np.ndarray]:
        return self._posterior.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._posterior.restore(dict(state))

    def metrics(self) -> dict[str, float]:
        return {"bound_share": self._posterior.bound_share()}
