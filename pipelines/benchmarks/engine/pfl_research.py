"""The same federated averaging in pfl-research, run by the interpreter of an environment that has it.

    ENVIRONMENT/bin/python -m torch.distributed.run --nproc_per_node 2 -m pipelines.benchmarks.engine.pfl_research \\
        CONFIG.json ROUNDS.json

Network, features and clients are those of the plain loop (:mod:`pipelines.benchmarks.engine.bare`). Samples of a client
are not shuffled there, so they come in the order of the round's first epoch; the processes share the evaluation.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.central_evaluation import CentralEvaluationCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.internal.ops.selector import get_framework_module, set_framework_module
from pfl.metrics import Metrics, Weighted, get_overall_value
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn

import fedsim
from pipelines.benchmarks.engine.bare import Process, optimizer_of


class _Network(nn.Module):
    """The network, with the two functions that pfl-research asks for."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(self.network(x), y)

    @torch.no_grad()
    def metrics(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        return {"accuracy": Weighted(int((self.network(x).argmax(1) == y).sum()), len(y))}


class _Timed(CentralEvaluationCallback):  # type: ignore[misc]
    """Evaluates after each round, and notes when it ended and its accuracy."""

    def __init__(self, rounds: list[dict[str, Any]], **keys: Any) -> None:
        super().__init__(**keys)
        self._rounds, self._started = rounds, 0.0

    def on_train_begin(self, *, model: Any) -> Any:
        found = super().on_train_begin(model=model)
        self._started = time.perf_counter()
        return found

    def after_central_iteration(self, aggregate_metrics: Any, model: Any, *, central_iteration: int) -> Any:
        _, metrics = self._eval(model)
        [accuracy] = [get_overall_value(value) for name, value in metrics if "accuracy" in str(name)]
        ended = time.perf_counter()
        row = {"round": central_iteration + 1, "seconds": ended - self._started, "accuracy": float(accuracy)}
        self._rounds.append(row)
        self._started = ended
        return False, Metrics()


def run(config: fedsim.Config) -> list[dict[str, Any]]:
    """Train ``config.rounds`` rounds: the seconds and the test accuracy of each."""
    from pfl.internal.ops import pytorch_ops

    train, clients = config.train, config.partition.clients
    rounds: list[dict[str, Any]] = []
    assert train is not None
    if get_framework_module() is not pytorch_ops:
        set_framework_module(pytorch_ops)
    process = Process(config)

    def user(client: int) -> Dataset:
        rows = torch.from_numpy(process.partition.indices(client))[process.order(len(rounds) + 1, client, 0)]
        return Dataset((process.features["train"][rows], process.labels["train"][rows]), user_id=str(client))

    data = FederatedDataset(user, get_user_sampler("minimize_reuse", list(range(clients))))
    network = _Network(process.network)
    model = PyTorchModel(
        network,
        local_optimizer_create=optimizer_of(config),
        central_optimizer=torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1.0),
    )
    test = Dataset((process.features["test"], process.labels["test"]))
    evaluation = NNEvalHyperParams(local_batch_size=config.evaluate.batch_size)
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=config.rounds,
            evaluation_frequency=config.rounds,
            train_cohort_size=config.cohort_size,
            val_cohort_size=0,
        ),
        SimulatedBackend(training_data=data, val_data=data),
        model,
        NNTrainHyperParams(
            local_num_epochs=train.epochs, local_learning_rate=train.lr, local_batch_size=train.batch_size
        ),
        evaluation,
        [_Timed(rounds, dataset=test, model_eval_params=evaluation)],
    )
    return rounds


if __name__ == "__main__":
    _rounds = run(fedsim.load_config(json.loads(Path(sys.argv[1]).read_text())))
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        Path(sys.argv[2]).write_text(json.dumps(_rounds))
