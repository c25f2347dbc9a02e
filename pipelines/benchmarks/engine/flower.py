"""The same federated averaging in Flower's simulation, run by the interpreter of an environment that has it.

    ENVIRONMENT/bin/python -c "from pipelines.benchmarks.engine import flower; flower.main()" CONFIG.json ROUNDS.json

Clients and evaluation are those of the plain loop (:mod:`pipelines.benchmarks.engine.bare`), in two actors of one
thread; each client evaluates a part of the test samples, so that both work.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

import fedsim
from pipelines.benchmarks.engine.bare import Process


@functools.cache
def _process(text: str) -> Process:
    """The work as an actor holds it, made once."""
    return Process(fedsim.load_config(json.loads(text)))


def _weights(message: Message) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in message.content["arrays"].to_numpy_ndarrays()]


def _evaluating(config: fedsim.Config) -> int:
    """Clients that evaluate a part of the test samples each: as few as keep both actors busy."""
    return min(config.partition.clients, 2)


def client_app(text: str) -> ClientApp:
    """Clients that train and evaluate as the plain loop does."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        client, index = int(context.node_config["partition-id"]), int(message.content["config"]["server-round"])
        samples, trained = _process(text).train(index, client, _weights(message))
        arrays = ArrayRecord([parameter.numpy() for parameter in trained])
        metrics = MetricRecord({"num-examples": samples})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        process = _process(text)
        part, parts = int(message.content["config"]["part"]), _evaluating(process.config)
        tests = len(process.labels["test"])
        start, stop = tests * part // parts, tests * (part + 1) // parts
        correct = process.evaluate(_weights(message), start, stop)
        metrics = MetricRecord({"num-examples": stop - start, "accuracy": correct / (stop - start)})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


class _Timed(FedAvg):  # type: ignore[misc]
    """Notes when each round ends, and its accuracy."""

    def __init__(self, rounds: list[dict[str, Any]], **keys: Any) -> None:
        super().__init__(**keys)
        self._rounds, self._started = rounds, time.perf_counter()

    def configure_train(self, *arguments: Any, **keys: Any) -> Any:
        self._started = time.perf_counter()
        return super().configure_train(*arguments, **keys)

    def configure_evaluate(self, *arguments: Any, **keys: Any) -> Any:
        messages = list(super().configure_evaluate(*arguments, **keys))
        for part, message in enumerate(messages):  # one content for all of them, so each gets its own
            message.content = RecordDict({**message.content, "config": ConfigRecord({"part": part})})
        return messages

    def aggregate_evaluate(self, server_round: int, replies: Any) -> Any:
        metrics: Any = super().aggregate_evaluate(server_round, replies)
        seconds = time.perf_counter() - self._started
        self._rounds.append({"round": server_round, "seconds": seconds, "accuracy": float(metrics["accuracy"])})
        return metrics


def run(config: fedsim.Config, text: str) -> list[dict[str, Any]]:
    """Train ``config.rounds`` rounds: the seconds and the test accuracy of each."""
    rounds: list[dict[str, Any]] = []
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        chosen, evaluating = config.cohort_size, _evaluating(config)
        strategy = _Timed(
            rounds,
            fraction_train=config.participation,
            min_train_nodes=chosen,
            fraction_evaluate=evaluating / config.partition.clients,
            min_evaluate_nodes=evaluating,
        )
        initial = ArrayRecord([parameter.detach().numpy() for parameter in Process(config).trained])
        strategy.start(grid=grid, initial_arrays=initial, num_rounds=config.rounds)

    run_simulation(
        server_app=app,
        client_app=client_app(text),
        num_supernodes=config.partition.clients,
        backend_config={"init_args": {"num_cpus": 2}, "client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    return rounds


def main() -> None:
    """Read a configuration as JSON from the first argument, and write the rounds to the second."""
    text = Path(sys.argv[1]).read_text()
    Path(sys.argv[2]).write_text(json.dumps(run(fedsim.load_config(json.loads(text)), text)))
