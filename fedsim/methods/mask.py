"""Methods that train a probabilistic mask over frozen weights; each says what a client sends of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch

import deltamask as dm
from deltamask.fused import DrawnWeights
from fedsim.methods.base import Attack, ClientTask, Forward, MethodClient, MethodServer, Trained
from fedsim.methods.dp_sgd import private_training
from fedsim.methods.mask_settings import CountedSettings, MaskSettings
from fedsim.methods.phase import Method
from fedsim.methods.privacy import ClientPrivacy
from fedsim.methods.robust import TrimmedVotes
from fedsim.methods.together import together
from fedsim.methods.training import LocalTraining
from fedsim.methods.wire import pack_tensors, unpack_mask, unpack_tensors
from fedsim.models import TaskModel
from fedsim.settings import Experiment

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

    clips_gradients: ClassVar[bool] = True

    def __init__(self, params: M, experiment: Experiment, model: TaskModel) -> None:
        super().__init__(params, experiment, model)
        self._net = dm.MaskedModule(model.network, model.masked_names).to(model.device)
        self._training = LocalTraining(experiment.train, experiment.seed)
        self._private = private_training(experiment.train, experiment.privacy, experiment.seed)
        self._step = self._training.compiled(self._net.with_weights)
        self._loaded: tuple[np.ndarray, torch.Tensor, torch.Tensor] | None = None

    def warm_up(self, features: torch.Tensor) -> None:
        weights_d = self._net.weights_d.clone().requires_grad_()
        self._training.warm_up(lambda x: self._step(x, weights_d), features)

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

    def penalty(self, state: MaskState) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """A term of the loss of a client that trains from this state, by its scores, or the sum of such terms by the
        rows of a matrix of scores; None: no term."""
        return None

    def train(self, state: MaskState, task: ClientTask) -> Trained:
        self.model.load_head(state.head)
        net = self._net
        net.scores_d.data.copy_(self._start(state)[1])

        def weights(step: int) -> torch.Tensor:
            if self.params.forward == "expected":
                return net.weights_d * net.scores_d.sigmoid()
            return net.drawn(dm.stream_key(self.experiment.seed, "train", task.round, task.client, step))

        def at(step: int) -> tuple[torch.Tensor, torch.Tensor]:
            theta_d = net.theta()
            return weights(step), net.weights_d * theta_d * (1 - theta_d)

        penalty = self.penalty(state)
        term = None if penalty is None else (lambda: penalty(net.scores_d))
        if self._private is not None:
            loss = self._private.run(net.scores_d, task, net.with_weights, at, penalty=term)
        else:
            loss = self._training.run([net.scores_d], task, lambda x, step: self._step(x, weights(step)), penalty=term)
        return Trained(net.theta(), loss)

    def train_together(self, state: MaskState, tasks: Sequence[ClientTask]) -> list[Trained]:
        self.model.load_head(state.head)
        network = together(self._net, self._net.with_weights)

        def logits(x: torch.Tensor, scores: torch.Tensor, step: int) -> torch.Tensor:
            output: torch.Tensor = network(x, self._weights(scores, tasks, step))
            return output

        start_d = self._start(state)[1]
        scores, losses = self._training.run_together(start_d, tasks, logits, penalty=self.penalty(state))
        return [Trained(torch.sigmoid(scores_d), loss) for scores_d, loss in zip(scores, losses, strict=True)]

    def _weights(self, scores: torch.Tensor, tasks: Sequence[ClientTask], step: int) -> torch.Tensor:
        """Masked weights of a step of each client, ``(k, d)``; those of rows without a client are of no use."""
        if self.params.forward == "expected":
            return self._net.weights_d * scores.sigmoid()
        keys = [dm.stream_key(self.experiment.seed, "train", task.round, task.client, step) for task in tasks]
        keys += [0] * (len(scores) - len(keys))
        drawn = [DrawnWeights.apply(row, self._net.weights_d, key) for row, key in zip(scores, keys, strict=True)]
        return torch.stack(drawn)

    def attacked(self, trained: torch.Tensor, state: MaskState, attack: Attack) -> torch.Tensor:
        theta_g_d, clip = self.theta(state), self.params.clip
        change_d = torch.from_numpy(attack((trained - theta_g_d).cpu().numpy()))
        return (theta_g_d + change_d.to(trained.device)).clamp(clip, 1 - clip)

    def evaluations(self, state: MaskState, round_index: int) -> dict[str, Callable[[], Forward]]:
        theta_d = self.theta(state)
        key = dm.stream_key(self.experiment.seed, "evaluation", round_index)
        multipliers: dict[str, Callable[[], torch.Tensor]] = {
            "mean": lambda: self._deployed(theta_d),
            "expected": lambda: theta_d,
            "sampled": lambda: dm.bernoulli_mask(theta_d, key).float(),
        }

        return {name: lambda m=m: self._forward(state, m()) for name, m in multipliers.items()}  # type: ignore[misc]

    def personal(self, trained: torch.Tensor, state: MaskState, task: ClientTask) -> Forward:
        return self._forward(state, self._deployed(trained))

    def _deployed(self, theta_d: torch.Tensor) -> torch.Tensor:
        return (theta_d > 0.5).float() if self.params.deployed == "mask" else theta_d

    def _forward(self, state: MaskState, mask_d: torch.Tensor) -> Forward:
        self.model.load_head(state.head)
        return lambda features: self._net(features, mask_d)


def _unpack_broadcast(broadcast: bytes, params: CountedSettings, experiment: Experiment, model: TaskModel) -> MaskState:
    probabilities = params.initial(experiment, model.dimension)
    size = len(pack_tensors(model.head_state()))
    dm.unpack_state(broadcast[:-size], probabilities)
    return MaskState(probabilities, unpack_tensors(broadcast[-size:], model.head_shapes()))


class MaskServer(MethodServer[C]):
    """Keeps the counts; a subclass decodes."""

    counts_late = True

    def __init__(self, params: C, experiment: Experiment, model: TaskModel) -> None:
        super().__init__(params, experiment, model)
        self._probabilities = params.initial(experiment, model.dimension)
        self._initial = self._probabilities.state()
        self._privacy = ClientPrivacy(experiment.privacy, experiment.seed)
        self._delta: bytes | None = None
        differences = isinstance(self._probabilities, dm.CoupledDifference)
        self._votes = TrimmedVotes(params.trim, differences) if params.trim else None

    def broadcast(self) -> bytes:
        return dm.pack_state(self._probabilities, self._initial) + pack_tensors(self.model.head_state())

    def delta(self) -> bytes | None:
        return self._delta

    @property
    def replayable(self) -> bool:
        return not self._privacy.on  # clients may see the noised sums alone

    def adopt(self, broadcast: bytes) -> None:
        received = _unpack_broadcast(broadcast, self.params, self.experiment, self.model)
        self.model.load_head(received.head)
        self.restore(received.probabilities.state())

    def accumulate(self, decoded: dm.Decoded, weight: int) -> None:
        self._observe(decoded.mask_d, decoded.reference_d, weight)

    def _observe(self, mask_d: np.ndarray, reference_d: np.ndarray, weight: int) -> None:
        if self._votes is None:
            self._probabilities.observe(mask_d, reference_d, weight)
        else:
            self._votes.observe(mask_d, reference_d)

    def finish_round(self) -> None:
        if self._votes is None:
            if self._privacy.on:  # rounding what was added to integers is as private
                noise_d = self._privacy.noise(self.model.dimension, self._probabilities.flip_size)
                self._probabilities.perturb(np.rint(noise_d).astype(np.int64))
            self._delta = dm.pack_sums(self._probabilities, self._probabilities.round_sums)
            self._probabilities.step()
        else:
            left = self._votes.take(self._probabilities.sums_dtype)
            self._delta = dm.pack_sums(self._probabilities, left)
            self._probabilities.apply(left)

    def state(self) -> dict[str, np.ndarray]:
        return self._probabilities.state() | self._privacy.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._probabilities.restore(dict(state))
        self._privacy.restore(state)
        self._delta = None

    def metrics(self) -> dict[str, float]:
        return {"bound_share": self._probabilities.bound_share()}


class WholeMaskServer(MaskServer[C]):
    """The server of clients that send whole masks."""

    codec: ClassVar[str]

    def decode(self, round_index: int, client: int, payload: bytes) -> np.ndarray:
        return unpack_mask(payload, self.model.dimension, self.codec)

    def accumulate(self, decoded: Any, weight: int) -> None:
        self._observe(decoded, decoded, weight)


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
