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
from fedsim.methods.wire import pack_tensors, unpack_tensors
from fedsim.models import TaskModel


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

    def probabilities(self, dimension: int, participation: float) -> dm.GlobalProbabilities:
        """What keeps the global probabilities, at its start: the Beta posterior, unless a subclass knows better."""
        return dm.BetaPosterior(
            dimension,
            theta_init=self.theta_init,
            prior=self.prior,
            clip=self.clip,
            reset_every=self.reset_every or round(1 / participation),
        )

    @model_validator(mode="after")
    def _reachable_start(self) -> MaskConfig:
        if not self.clip <= self.theta_init <= 1 - self.clip:
            raise ValueError(f"theta_init: found {self.theta_init}, allowed: {self.clip} to {1 - self.clip}, by clip")
        return self


@dataclass(frozen=True)
class MaskState:
    """A received state: the global probabilities and the head."""

    probabilities: dm.GlobalProbabilities
    head: dict[str, np.ndarray]

    @property
    def theta_d(self) -> np.ndarray:
        """The probabilities theta, float32 of shape ``(d,)``."""
        return self.probabilities.theta_d


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
    def encode(self, theta_k_d: np.ndarray, state: MaskState, task: ClientTask) -> Message:
        """The upload from a client's probabilities after training, float32 of shape ``(d,)``."""

    def penalty(self, state: MaskState) -> Callable[[], torch.Tensor] | None:
        """What is added to the loss of a client that trains from this state; None: nothing."""
        return None

    def receive(self, broadcast: bytes) -> MaskState:
        probabilities, head = initial_probabilities(self.config, self.model), head_shapes(self.model)
        size = len(pack_tensors(self.model.head_state()))
        dm.unpack_state(broadcast[:-size], probabilities)
        return MaskState(probabilities, unpack_tensors(broadcast[-size:], head))

    def receive_update(self, update: bytes, state: MaskState) -> MaskState:
        state.probabilities.apply(dm.unpack_sums(update, state.probabilities))
        return state

    def train(self, state: MaskState, task: ClientTask) -> Upload:
        started = time.perf_counter()
        self.model.load_head(state.head)
        net = self._net
        net.load_theta(state.theta_d)

        def logits(x: torch.Tensor, step: int) -> torch.Tensor:
            key = dm.stream_key(self.config.seed, "train", task.round, task.client, step)
            output: torch.Tensor = net(x, net.sample(key))
            return output

        optimizer = make_optimizer(self.config.train, [net.scores_d])
        batches = task.batches(self.config, self.config.train.epochs)
        train_loss = train_steps(optimizer, batches, logits, self.penalty(state))
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

    def evaluations(self, state: MaskState, round_index: int) -> dict[str, Callable[[], Forward]]:
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


def initial_probabilities(config: Config, model: TaskModel) -> dm.GlobalProbabilities:
    """The global probabilities before the first round, which both sides derive from the configuration."""
    params = config.method
    assert isinstance(params, MaskConfig)
    probabilities = params.probabilities(model.dimension, config.participation)
    if params.scores_init == "normal":
        rng = np.random.Generator(np.random.Philox(key=dm.stream_key(config.seed, "scores")))
        probabilities.start((1 / (1 + np.exp(-rng.standard_normal(model.dimension)))).astype(np.float32))
    return probabilities


class MaskServer(MethodServer):
    """Keeps the global probabilities; a subclass says what a message tells of a client's mask."""

    def __init__(self, config: Config, model: TaskModel) -> None:
        super().__init__(config, model)
        self._probabilities = initial_probabilities(config, model)
        self._initial = self._probabilities.state()
        self._update: bytes | None = None

    @abstractmethod
    def decode(self, round_index: int, client: int, data: bytes) -> Received:
        """A client's mask.

        Raises:
            PayloadError: the bytes are not an upload of this method.
        """

    def weight(self, samples: int) -> int:
        """What a client of so many training samples counts for."""
        return 1

    def broadcast(self) -> bytes:
        return dm.pack_state(self._probabilities, self._initial) + pack_tensors(self.model.head_state())

    def update(self) -> bytes | None:
        return self._update

    def absorb(self, round_index: int, client: int, samples: int, payload: bytes) -> Absorbed:
        started = time.perf_counter()
        received = self.decode(round_index, client, payload)
        decode_seconds = time.perf_counter() - started
        self._probabilities.observe(received.mask_d, received.reference_d, self.weight(samples))
        return Absorbed(decode_seconds, flips=received.flips)

    def finish_round(self) -> None:
        self._update = dm.pack_sums(self._probabilities, self._probabilities.round_sums)
        self._probabilities.step()

    def state(self) -> dict[str, np.ndarray]:
        return self._probabilities.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._probabilities.restore(dict(state))
        self._update = None

    def metrics(self) -> dict[str, float]:
        return {"bound_share": self._probabilities.bound_share()}
