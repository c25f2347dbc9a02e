"""Methods that train a probabilistic mask over frozen weights; each says what a client sends of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from pydantic import Field, model_validator

import deltamask as dm
from deltamask import codecs, payload
from deltamask.fused import DrawnWeights
from fedsim.methods.base import ClientTask, Forward, Method, MethodClient, MethodServer, Trained
from fedsim.methods.training import LocalTraining
from fedsim.methods.wire import pack_tensors, unpack_tensors
from fedsim.models import TaskModel
from fedsim.settings import Experiment, MethodSettings


class CountedSettings(MethodSettings):
    """Parameters of methods whose server counts mask bits."""

    def probabilities(self, dimension: int, participation: float) -> dm.GlobalProbabilities:
        """The keeper of the counts and of their probabilities, at its start."""
        raise NotImplementedError

    def initial(self, experiment: Experiment, dimension: int) -> dm.GlobalProbabilities:
        """The counts and their probabilities before the first round, which both sides derive from the configuration."""
        return self.probabilities(dimension, experiment.participation)


class MaskSettings(CountedSettings):
    """Parameters of methods with a Beta posterior over probabilistic masks."""

    theta_init: float = Field(0.95, gt=0, lt=1, description="probability of every mask bit at the start")
    scores_init: Literal["constant", "normal"] = Field(
        "constant", description="theta_init everywhere, or sigmoid of N(0, 1), which halves pretrained weights"
    )
    forward: Literal["sampled", "expected"] = Field(
        "sampled", description="network of a training step: a mask drawn anew, or each weight times its probability"
    )
    deployed: Literal["mask", "expected"] = Field(
        "mask", description="model to keep: the mean mask theta > 0.5, or each weight times its probability"
    )
    clip: float = Field(0.01, ge=1e-6, lt=0.5, description="distance of the global probabilities from 0 and 1")
    prior: float = Field(1.0, ge=1, le=1000, description="alpha and beta of the Beta prior, lambda_0")
    reset_every: int | None = Field(
        None, ge=1, description="rounds between returns to the prior; 1 / participation when not given"
    )

    only_with: ClassVar[Mapping[str, tuple[str, tuple[Any, ...]]]] = {"theta_init": ("scores_init", ("constant",))}

    def probabilities(self, dimension: int, participation: float) -> dm.GlobalProbabilities:
        """The Beta posterior, unless a subclass knows better."""
        return dm.BetaPosterior(
            dimension,
            theta_init=self.theta_init,
            prior=self.prior,
            clip=self.clip,
            reset_every=self.reset_every or round(1 / participation),
        )

    def initial(self, experiment: Experiment, dimension: int) -> dm.GlobalProbabilities:
        probabilities = super().initial(experiment, dimension)
        if self.scores_init == "normal":
            rng = np.random.Generator(np.random.Philox(key=dm.stream_key(experiment.seed, "scores")))
            probabilities.start((1 / (1 + np.exp(-rng.standard_normal(dimension)))).astype(np.float32))
        return probabilities

    @model_validator(mode="after")
    def _reachable_start(self) -> MaskSettings:
        if self.scores_init == "constant" and not self.clip <= self.theta_init <= 1 - self.clip:
            raise ValueError(f"theta_init: found {self.theta_init}, allowed: {self.clip} to {1 - self.clip}, by clip")
        return self


C = TypeVar("C", bound=CountedSettings)
M = TypeVar("M", bound=MaskSettings)


@dataclass(frozen=True)
class MaskState:
    """A received state: the global probabilities and the head."""

    probabilities: dm.GlobalProbabilities
    head: dict[str, np.ndarray]

    @property
    def theta_d(self) -> np.ndarray:
        """The probabilities theta, float32 of shape ``(d,)``."""
        return self.probabilities.theta_d


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


class CountedClient(MethodClient[C]):
    """Receives the server's counts; a subclass trains a mask from them."""

    def receive(self, broadcast: bytes) -> MaskState:
        return _unpack_broadcast(broadcast, self.params, self.experiment, self.model)

    def receive_delta(self, delta: bytes, state: MaskState) -> MaskState:
        state.probabilities.apply(dm.unpack_sums(delta, state.probabilities))
        return state


class MaskClient(CountedClient[M]):
    """Trains the scores of a probabilistic mask; a subclass says what is sent of the probabilities.

    What training gives is the client's probabilities, float32 of shape ``(d,)``, on the model's device.
    """

    def __init__(self, params: M, experiment: Experiment, model: TaskModel) -> None:
        super().__init__(params, experiment, model)
        self._net = dm.MaskedModule(model.network, model.masked_names).to(model.device)
        self._training = LocalTraining(experiment.train, experiment.seed)
        self._loaded: tuple[np.ndarray, torch.Tensor, torch.Tensor] | None = None

    def theta(self, state: MaskState) -> torch.Tensor:
        """The probabilities of a state on the model's device, copied there once for all clients of a round."""
        return self._start(state)[0]

    def _start(self, state: MaskState) -> tuple[torch.Tensor, torch.Tensor]:
        """The probabilities of a state and their scores, on the model's device."""
        if self._loaded is None or self._loaded[0] is not state.theta_d:
            self._net.load_theta(state.theta_d)
            theta_d = torch.from_numpy(state.theta_d).to(self.model.device)
            self._loaded = (state.theta_d, theta_d, self._net.scores_d.detach().clone())
        return self._loaded[1:]

    def penalty(self, state: MaskState) -> Callable[[], torch.Tensor] | None:
        """A term of the loss of a client that trains from this state; None: no term."""
        return None

    def train(self, state: MaskState, task: ClientTask) -> Trained:
        self.model.load_head(state.head)
        net = self._net
        net.scores_d.data.copy_(self._start(state)[1])

        def logits(x: torch.Tensor, step: int) -> torch.Tensor:
            key = dm.stream_key(self.experiment.seed, "train", task.round, task.client, step)
            output: torch.Tensor = (
                net(x, key=key) if self.params.forward == "sampled" else net(x, net.scores_d.sigmoid())
            )
            return output

        loss = self._training.run([net.scores_d], task, logits, penalty=self.penalty(state))
        return Trained(net.theta(), loss)

    def evaluations(self, state: MaskState, round_index: int) -> dict[str, Callable[[], Forward]]:
        theta_d = self.theta(state)
        key = dm.stream_key(self.experiment.seed, "evaluation", round_index)
        multipliers: dict[str, Callable[[], torch.Tensor]] = {
            "mean": lambda: (theta_d > 0.5).float() if self.params.deployed == "mask" else theta_d,
            "expected": lambda: theta_d,
            "sampled": lambda: dm.bernoulli_mask(theta_d, key).float(),
        }

        def prepare(multiplier: Callable[[], torch.Tensor]) -> Forward:
            self.model.load_head(state.head)
            mask_d = multiplier()
            return lambda features: self._net(features, mask_d)

        return {name: lambda m=multiplier: prepare(m) for name, multiplier in multipliers.items()}  # type: ignore[misc]


def _unpack_broadcast(broadcast: bytes, params: CountedSettings, experiment: Experiment, model: TaskModel) -> MaskState:
    probabilities = params.initial(experiment, model.dimension)
    size = len(pack_tensors(model.head_state()))
    dm.unpack_state(broadcast[:-size], probabilities)
    return MaskState(probabilities, unpack_tensors(broadcast[-size:], model.head_shapes()))


class MaskServer(MethodServer[C]):
    """Keeps the counts; a subclass decodes."""

    def __init__(self, params: C, experiment: Experiment, model: TaskModel) -> None:
        super().__init__(params, experiment, model)
        self._probabilities = params.initial(experiment, model.dimension)
        self._initial = self._probabilities.state()
        self._delta: bytes | None = None

    def broadcast(self) -> bytes:
        return dm.pack_state(self._probabilities, self._initial) + pack_tensors(self.model.head_state())

    def delta(self) -> bytes | None:
        return self._delta

    @property
    def replayable(self) -> bool:
        return True

    def adopt(self, broadcast: bytes) -> None:
        received = _unpack_broadcast(broadcast, self.params, self.experiment, self.model)
        self.model.load_head(received.head)
        self.restore(received.probabilities.state())

    def accumulate(self, decoded: dm.Decoded, weight: int) -> None:
        self._probabilities.observe(decoded.mask_d, decoded.reference_d, weight)

    def finish_round(self) -> None:
        self._delta = dm.pack_sums(self._probabilities, self._probabilities.round_sums)
        self._probabilities.step()

    def state(self) -> dict[str, np.ndarray]:
        return self._probabilities.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._probabilities.restore(dict(state))
        self._delta = None

    def metrics(self) -> dict[str, float]:
        return {"bound_share": self._probabilities.bound_share()}


class WholeMaskServer(MaskServer[C]):
    """The server of clients that send whole masks."""

    codec: ClassVar[str]

    def decode(self, round_index: int, client: int, payload: bytes) -> np.ndarray:
        return unpack_mask(payload, self.model.dimension, self.codec)

    def accumulate(self, decoded: Any, weight: int) -> None:
        self._probabilities.observe(decoded, decoded)


class MaskMethod(Method):
    """A method whose server counts mask bits."""

    @classmethod
    def compile_kernels(cls, params: Any) -> None:
        probabilities, again = (params.probabilities(64, participation=1.0) for _ in range(2))
        initial, mask_d = probabilities.state(), np.arange(64) % 2 == 0
        probabilities.observe(mask_d, ~mask_d)
        dm.unpack_sums(dm.pack_sums(probabilities, probabilities.round_sums), probabilities)
        probabilities.step()
        dm.unpack_state(dm.pack_state(probabilities, initial), again)
        scores_d = torch.zeros(64, requires_grad=True)
        DrawnWeights.apply(scores_d, torch.ones(64), 0).sum().backward()
