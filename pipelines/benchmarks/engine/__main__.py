"""Seconds a round: the simulator, a plain PyTorch loop and other simulators at the same work.

    python -m pipelines.benchmarks.engine

Federated averaging, evaluated after each round, of three networks: the last blocks of tiny-vit and its head at 10
clients of 300 images (``blocks``); logistic regression in MNIST's shape, 10 of 1,000 clients a round, in batches of 10
(``logistic``); the two convolutions that pfl-research measures itself by, 50 of 1,000 clients of 50 images, in batches
of 10 (``cnn``). All systems have the same samples, batches and cached features; they run in turn, some times over. The
first round, which warms up, is left out. The loop (bare) keeps no results and sends no bytes. Numbers are processes or
workers, of one thread each; 0 is the simulator in the process that asks. Competitors get environments of their own, and
choose cohorts of their own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

import fedsim
from fedsim.provenance import command_line, describe_machine, git_commit
from pipelines.benchmarks.engine import bare
from results import tables

SYSTEMS = (
    "bare, 1",
    "bare, 2",
    "fedsim, 0",
    "fedsim, 1",
    "fedsim, 2",
    "pfl-research, 1",
    "pfl-research, 2",
    "flower, 2",
)
#: What `pip` is asked for in an environment of its own, beside this one's packages.
_COMPETITORS = {"flower": "flwr[simulation]==1.42.0", "pfl-research": "pfl[pytorch]==0.6.0"}
_SGD = {"batch_size": 10, "optimizer": "sgd", "momentum": 0.0}
#: Configurations of the tasks, with 10 classes of noisy pictures.
TASKS: dict[str, dict[str, Any]] = {
    "blocks": {
        "rounds": 4,
        "data": {"train_samples": 3000, "test_samples": 1000},
        "partition": {"clients": 10},
        "train": {"batch_size": 32, "lr": 0.001},
    },
    "logistic": {
        "rounds": 20,
        "participation": 0.01,
        "data": {"train_samples": 60_000, "test_samples": 2000, "noise": 500},
        "partition": {"clients": 1000},
        "model": {"name": "mlp", "hidden": [], "masked_blocks": 0},
        "train": _SGD | {"lr": 0.1},
        "evaluate": {"batch_size": 1000},
    },
    "cnn": {
        "rounds": 8,
        "participation": 0.05,
        "data": {"train_samples": 50_000, "test_samples": 1000, "noise": 200},
        "partition": {"clients": 1000},
        "model": {"name": "cnn"},
        "train": _SGD | {"lr": 0.02},
    },
}
#: What only the simulator knows.
_OWN = {"blocks": ["train.compile=true"], "logistic": ["train.together=10"]}


def configuration(task: str, overrides: list[str]) -> fedsim.Config:
    """The run of a task."""
    tree: dict[str, Any] = {
        **TASKS[task],
        "data": {"name": "synthetic", "validation": 0, **TASKS[task]["data"]},
        "head": {"name": "joint"},
        "method": {"name": "fedavg"},
    }
    return fedsim.load_config(tree, overrides)


def environment(name: str, folder: Path) -> Path:
    """The interpreter of an environment that has a competitor, and this one's packages where it wants no others."""
    place = folder / name
    python = place / "bin" / "python"
    if not (place / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        [packages] = place.glob("lib/python*/site-packages")
        (packages / "shared.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
        subprocess.run([python, "-m", "pip", "install", "--quiet", _COMPETITORS[name]], check=True)
        (place / "installed").touch()
    return python


def competitor(name: str, processes: int, config: fedsim.Config, folder: Path) -> list[dict[str, Any]]:
    """The rounds of a run by a competitor."""
    python = environment(name, folder / "environments")
    given, found = folder / "config.json", folder / "rounds.json"
    given.write_text(json.dumps(config.model_dump(mode="json")))
    found.unlink(missing_ok=True)
    if name == "flower":
        command = ["-c", "from pipelines.benchmarks.engine import flower; flower.main()"]
    else:
        launch = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes)] if processes > 1 else []
        command = [*launch, "-m", "pipelines.benchmarks.engine.pfl_research"]
    variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([python, *command, given, found], env=variables, capture_output=True, text=True)
    if not found.exists():
        raise RuntimeError(f"{name} ended with code {ended.returncode}:\n{(ended.stdout + ended.stderr)[-5000:]}")
    return list(json.loads(found.read_text()))


def seconds(task: str, system: str, overrides: list[str], folder: Path) -> list[dict[str, Any]]:
    """The rounds of one run of a system, with their seconds and accuracy."""
    name, count = system.split(", ")[0], int(system.split(", ")[1])
    config = configuration(task, overrides)
    if name == "bare":
        return bare.run(config, count)
    if name in _COMPETITORS:
        return competitor(name, count, config, folder)
    workers = [f"cluster.workers={count}"] if count else ["cluster.executor=serial"]
    config = configuration(task, [*_OWN.get(task, []), *workers, *overrides])
    rounds = fedsim.run(config, fresh=True).load().rounds.query("round > 0")
    rows: Any = rounds.rename(columns={"round_seconds": "seconds"}).to_dict("records")
    return list(rows)


def table(frame: pd.DataFrame, base: str) -> str:
    """Ratios to a system, as Markdown: of one task."""
    warm = frame[frame["round"] > 1]
    runs = warm.groupby(["system", "repeat"], sort=False)["seconds"].median().unstack()
    final = frame.sort_values("round").groupby("system", sort=False)["accuracy"].last()
    rows = []
    ratios = runs / runs.loc[base]
    for system in runs.index:
        rows.append(
            {
                "system": system,
                "round, ms": _spread(1000 * runs.loc[system], 0),
                f"over {base}": _spread(ratios.loc[system], 2),
                "accuracy": f"{100 * final[system]:.1f}",
            }
        )
    return tables.to_markdown(pd.DataFrame(rows))


def _spread(values: pd.Series, digits: int) -> str:
    return f"{values.mean():.{digits}f}" + (f" ± {values.std():.{digits}f}" if len(values) > 1 else "")


def main() -> None:
    """Measure, print and store as Parquet and a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--base", default="bare, 2", choices=SYSTEMS, help="what ratios are over")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each system (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/engine"), help="folder to write")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of every run, such as rounds=6")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    overrides = [f"output={arguments.output}/runs", *arguments.overrides]
    rows: list[dict[str, Any]] = []
    for task, repeat, system in itertools.product(arguments.tasks, range(arguments.repeats), arguments.systems):
        for row in seconds(task, system, overrides, arguments.output):
            kept = {name: row[name] for name in ("round", "seconds", "accuracy")}
            rows.append({"task": task, "system": system, "repeat": repeat, **kept})
        said = f"{rows[-1]['seconds']:.3f} s, accuracy {rows[-1]['accuracy']:.3f}"
        print(f"{task}, {system}: {said}", flush=True)
    source = {"command": command_line(), "git_commit": git_commit(), "machine": describe_machine()}
    frame = pd.DataFrame(rows).assign(**source)
    frame.to_parquet(arguments.output / "engine.parquet", index=False)
    parts = [f"{task}\n\n{table(part, arguments.base)}" for task, part in frame.groupby("task", sort=False)]
    text = "\n".join(parts)
    (arguments.output / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
