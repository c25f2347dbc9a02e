"""Flips of real training rounds, kept for the benchmark of the codecs."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import fedsim
from deltamask import Update, decode, stream_key
from fedsim.engine import Federation, SerialExecutor
from fedsim.methods import ClientTask
from fedsim.methods.deltamask import DeltaMask
from fedsim.methods.deltamask_plus import DeltaMaskPlus
from fedsim.methods.mask import MaskState


@dataclass(frozen=True)
class Flips:
    """The flips that a client sends, with what it shares with the server.

    Attributes:
        indices: ascending uint64 of shape ``(n,)``.
        theta_d: the broadcast probabilities, float32 of shape ``(d,)``.
        key: stream of the uniforms of the reference mask.
    """

    indices: np.ndarray
    theta_d: np.ndarray
    key: int


#: What the last round's first client sent; the methods below fill it.
_kept: dict[str, Flips] = {}


def _keeping(client: Any) -> Any:
    class Keeping(client):  # type: ignore[misc]
        def encode(self, theta_k_d: np.ndarray, state: MaskState, task: ClientTask) -> Update:
            update: Update = super().encode(theta_k_d, state, task)
            if task.client == 0 and task.round == self.experiment.rounds:
                key = stream_key(self.experiment.seed, "reference", task.round, task.client)
                flips = decode(update.payload, state.theta_d, key, codec="range").flips
                _kept["last"] = Flips(flips, state.theta_d.copy(), key)
            return update

    return Keeping


class KeepingDeltaMask(DeltaMask):
    """DeltaMask that keeps the flips of its last round."""

    Client: ClassVar = _keeping(DeltaMask.Client)


class KeepingDeltaMaskPlus(DeltaMaskPlus):
    """DeltaMaskPlus that keeps the flips of its last round."""

    Client: ClassVar = _keeping(DeltaMaskPlus.Client)


#: Settings of real rounds: the paper's and the recommended ones, with an exact codec so that no false flip is kept.
ROUNDS = {
    "deltamask": ["method.name=pipelines.benchmarks.flips:KeepingDeltaMask", "method.codec=range"],
    "deltamask-plus": ["method.name=pipelines.benchmarks.flips:KeepingDeltaMaskPlus"],
}


def of_real_rounds(method: str, model: dict[str, Any], rounds: int, samples: int, seed: int) -> Flips:
    """Flips that client 0 of four sends in the last of some rounds on the embedded digits.

    Args:
        method: a key of :data:`ROUNDS`.
        model: the ``model`` group of the configuration.
        rounds: training rounds.
        samples: training samples of all clients.
        seed: of the experiment.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree = {
            "seed": seed,
            "rounds": rounds,
            "data": {"train_samples": samples, "test_samples": 10},
            "partition": {"clients": 4},
            "model": model,
            "head": {"name": "linear-probe", "batch_size": 16},
            "train": {"batch_size": 16},
            "cluster": {"executor": "serial", "cpus_per_worker": 2, "feature_store": folder},
        }
        config = fedsim.load_config(tree, ROUNDS[method])
        federation = Federation(config, SerialExecutor(config))
        while not federation.done:
            federation.run_round()
    return _kept.pop("last")
