"""Growth of a round's time and memory with the federation, the cohort and the model.

    python -m pipelines.benchmarks.scale

- ``clients``: registered clients of 20 samples, of which 10 take part in a round: logistic regression, one worker.
- ``world``: the same in a simulated world, where each client has a link of its own and ten stays in a table of traces.
- ``cohort``: clients of 2,000 that take part in a round, likewise, 100 of them trained together.
- ``parameters``: masked parameters, for the server alone: four clients a round of ``deltamask`` and ``deltamask-plus``,
  whose uploads are synthetic: probabilities that moved by normal noise, encoded and decoded as those of a real run.

Each case has a process of its own. A row is a median over rounds after the first two of a second run, which finds its
prefix features in the store; memory is the most that a process ever had. It leaves out the network between machines.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import fedsim
import results
from fedsim.engine import (
    Broadcast,
    EvaluationSums,
    Executor,
    PhaseName,
    Prepared,
    Simulation,
    Upload,
    make_clients,
    make_model,
)
from fedsim.methods import ClientTask
from fedsim.provenance import command_line, describe_machine, git_commit
from results import tables

REGISTERED = (100, 1_000, 10_000, 100_000)
COHORTS = (1, 10, 100, 1_000)
PARAMETERS = (100_000, 1_000_000, 10_000_000, 100_000_000)
ROUNDS, SAMPLES, UPLOADS = 12, 20, 4
_PARTS = ("train", "encode", "decode", "aggregate", "evaluate", "round")
_INPUTS = 784


def federated(output: str, clients: int, cohort: int, in_world: bool = False) -> dict[str, Any]:
    """A run of logistic regression in MNIST's shape with one worker."""
    tree = {
        **({"world": world(output, clients)} if in_world else {}),
        "rounds": ROUNDS,
        "participation": cohort / clients,
        "output": output,
        "data": {"name": "synthetic", "train_samples": SAMPLES * clients, "test_samples": 1000, "validation": 0},
        "partition": {"clients": clients},
        "model": {"name": "mlp", "hidden": [], "masked_blocks": 0},
        "head": {"name": "joint"},
        "method": {"name": "fedavg"},
        "train": {"batch_size": 10, "lr": 0.1, "optimizer": "sgd", "momentum": 0.0, "together": min(cohort, 100)},
        "evaluate": {"batch_size": 1000},
        "cluster": {"workers": 1},
    }
    fedsim.run(tree, fresh=True)  # stores the prefix features that its clients need
    memory = Memory()
    result = fedsim.run(tree, fresh=True, callbacks=[memory]).load()
    return {"method": "fedavg", **_of_rounds(result), **memory.peaks}


class Memory(fedsim.Callback):
    """Looks at the memory of all processes after each round."""

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}

    def round(self, run: fedsim.Run, row: Mapping[str, Any]) -> None:
        self.peaks = peaks()


def world(output: str, clients: int) -> dict[str, Any]:
    """Keys of a world in which each client is there for about half of the time, and some of a cohort drop out."""
    rng, stays = np.random.default_rng(0), 10
    times = np.sort(rng.uniform(0, 86_400, (clients, 2 * stays)))
    columns = {
        "client": np.repeat(np.arange(clients), stays),
        "start": times[:, ::2].ravel(),
        "end": times[:, 1::2].ravel(),
    }
    Path(output).mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_parquet(f"{output}/traces.parquet")
    return {"profile": "mixed", "traces": f"{output}/traces.parquet", "dropout": 0.1, "over_selection": 1.2}


def synthetic(output: str, method: str, parameters: int) -> dict[str, Any]:
    """A run whose uploads nobody trained, in this process."""
    tree = {
        "rounds": ROUNDS // 2,
        "output": output,
        "data": {"name": "synthetic", "train_samples": UPLOADS, "test_samples": 1, "validation": 0},
        "partition": {"clients": UPLOADS},
        "model": {"name": "mlp", "hidden": [parameters // _INPUTS], "masked_blocks": 1, "mask_biases": False},
        "head": {"name": "random"},
        "method": {"name": method},
        "cluster": {"executor": "serial", "cpus_per_worker": len(os.sched_getaffinity(0))},
    }
    config = fedsim.load_config(tree)
    simulation = Simulation(config, Synthetic(config), output)
    while simulation.step() is not None:
        pass
    simulation.finish("finished")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"method": method, **_of_rounds(results.load(output)), "driver_bytes": peak}


def _of_rounds(result: results.Results) -> dict[str, Any]:
    run, rounds = result.runs.iloc[0], result.rounds.query("round > 2")
    return {
        "clients": run["clients"],
        "cohort": int(rounds["participants"].median()),
        "parameters": run["masked_parameters"],
        **{f"{part}_seconds": rounds[f"{part}_seconds"].median() for part in _PARTS},
        "uplink_bytes": int(rounds["uplink_bytes"].median()),
        "downlink_bytes": int(rounds["downlink_bytes"].median()),
    }


def peaks() -> dict[str, int]:
    """Most memory that the driver and the worker of this machine ever had, bytes."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            title = (folder / "cmdline").read_bytes()
            for name, key in ((b"ray::Driver", "driver_bytes"), (b"ray::Worker", "worker_bytes")):
                if title.startswith(name):
                    [line] = [x for x in (folder / "status").read_text().splitlines() if x.startswith("VmHWM")]
                    found[key] = int(line.split()[1]) * 1024
    return found


class Synthetic(Executor):
    """Uploads of probabilities that moved at random, without training and without evaluation."""

    def __init__(self, config: fedsim.Config) -> None:
        self._clients = make_clients(config, make_model(config, 10))

    def prepare(self) -> Prepared:
        return Prepared(0, 0, 0.0, ())

    def train(
        self, phase: PhaseName, round_index: int, cohort: Sequence[int], broadcast: Broadcast, kept: Mapping[int, int]
    ) -> Iterator[Upload]:
        client: Any = self._clients[phase]
        state = client.receive(broadcast.full)
        for index in cohort:
            task = ClientTask(round_index, index, torch.zeros(0), torch.zeros(0, dtype=torch.int64))
            if phase == "head":
                trained = client.train(state, task).value
            else:
                theta_d = client.theta(state)
                noise_d = torch.randn(theta_d.shape, generator=torch.Generator().manual_seed(index))
                trained = (theta_d + 0.05 * noise_d).clamp_(0.001, 0.999)
            started = time.perf_counter()
            update = client.encode(trained, state, task)
            yield Upload(index, 1, update, None, 0.0, time.perf_counter() - started)

    def evaluate(
        self, phase: PhaseName, round_index: int, chunks: int, broadcast: Broadcast
    ) -> list[dict[str, EvaluationSums]]:
        return [{"mean": EvaluationSums(1, 1, 0.0)} for _ in range(chunks)]

    def close(self) -> None:
        pass


def cases(output: Path) -> Iterator[tuple[str, Callable[..., dict[str, Any]], tuple[Any, ...]]]:
    """Name, function and arguments of every measurement."""
    for clients in REGISTERED:
        yield "clients", federated, (f"{output}/clients-{clients}", clients, 10)
        yield "world", federated, (f"{output}/world-{clients}", clients, 10, True)
    for cohort in COHORTS:
        yield "cohort", federated, (f"{output}/cohort-{cohort}", 2000, cohort)
    for method, parameters in product(("deltamask", "deltamask-plus"), PARAMETERS):
        yield "parameters", synthetic, (f"{output}/{method}-{parameters}", method, parameters)


def table(frame: pd.DataFrame) -> str:
    """The columns that a reader compares, as Markdown; milliseconds of a round."""
    shown = frame[["method", "clients", "cohort", "parameters"]].copy()
    for part in _PARTS:
        shown[f"{part}, ms"] = (1000 * frame[f"{part}_seconds"]).round(1)
    for name in ("driver", "worker"):
        if frame.get(f"{name}_bytes", pd.Series(dtype=float)).notna().any():
            shown[f"{name}, MB"] = (frame[f"{name}_bytes"] / 1e6).round(0).astype(int)
    shown["uplink, kB"] = (frame["uplink_bytes"] / 1e3).round(1)
    return tables.to_markdown(shown.astype(str))


def main() -> None:
    """Measure, print and store as Parquet and tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=["clients", "cohort", "parameters"], help="measurements to make")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/scale"), help="folder to write")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for what, function, given in cases(arguments.output / "runs"):
        if what in arguments.only:
            shutil.rmtree(given[0], ignore_errors=True)
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                rows.append({"what": what, **pool.submit(function, *given).result()})
            print(rows[-1], flush=True)
    source = {"command": command_line(), "git_commit": git_commit(), "machine": describe_machine()}
    frame = pd.DataFrame(rows).assign(**source)
    frame.to_parquet(arguments.output / "scale.parquet", index=False)
    text = "\n".join(f"{what}\n\n{table(part)}" for what, part in frame.groupby("what", sort=False))
    (arguments.output / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
