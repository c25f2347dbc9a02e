"""Seconds a round: the simulator, a plain PyTorch loop and other simulators at the same work.

    python -m pipelines.benchmarks.engine

Federated averaging of the last blocks of tiny-vit and its head, all clients in each round, evaluated after each. All
systems have the same samples, batches and cached features; they run in turn, some times over. The first round, which
warms up, is left out. The loop (bare) keeps no results and sends no bytes. Numbers are processes or workers, of one
thread each; competitors get environments of their own.
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

SYSTEMS = ("bare, 1", "bare, 2", "fedsim, 1", "fedsim, 2", "pfl-research, 1", "pfl-research, 2", "flower, 2")
#: What `pip` is asked for in an environment of its own, beside this one's packages.
_COMPETITORS = {"flower": "flwr[simulation]==1.42.0", "pfl-research": "pfl[pytorch]==0.6.0"}
_TREE = {
    "rounds": 4,
    "data": {"name": "synthetic", "train_samples": 3000, "test_samples": 1000, "validation": 0},
    "partition": {"name": "iid", "clients": 10},
    "head": {"name": "joint"},
    "method": {"name": "fedavg"},
    "train": {"batch_size": 32, "lr": 0.001},
}


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


def seconds(system: str, overrides: list[str], folder: Path) -> list[dict[str, Any]]:
    """The rounds of one run of a system, with their seconds and accuracy."""
    name, count = system.split(", ")[0], int(system.split(", ")[1])
    config = fedsim.load_config(_TREE, overrides)
    if name == "bare":
        return bare.run(config, count)
    if name in _COMPETITORS:
        return competitor(name, count, config, folder)
    config = fedsim.load_config(_TREE, [*overrides, f"cluster.workers={count}"])
    rounds = fedsim.run(config, fresh=True).load().rounds.query("round > 0")
    rows: Any = rounds.rename(columns={"round_seconds": "seconds"}).to_dict("records")
    return list(rows)


def table(frame: pd.DataFrame, base: str) -> str:
    """Ratios to the loop in as many processes, by Markdown."""
    warm = frame[frame["round"] > 1]
    runs = warm.groupby(["system", "repeat"], sort=False)["seconds"].median().unstack()
    final = frame.sort_values("round").groupby("system", sort=False)["accuracy"].last()
    rows = []
    ratios = runs / runs.loc[base]
    for system in runs.index:
        rows.append(
            {
                "system": system,
                "round, s": _spread(runs.loc[system]),
                f"over {base}": _spread(ratios.loc[system]),
                "accuracy": f"{100 * final[system]:.1f}",
            }
        )
    return tables.to_markdown(pd.DataFrame(rows))


def _spread(values: pd.Series) -> str:
    return f"{values.mean():.2f}" + (f" ± {values.std():.2f}" if len(values) > 1 else "")


def main() -> None:
    """Measure, print and store as Parquet and a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--base", default="bare, 2", choices=SYSTEMS, help="what ratios are over")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each system (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/engine"), help="folder to write")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of every run, such as rounds=6")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    overrides = [f"output={arguments.output}/runs", *arguments.overrides]
    rows: list[dict[str, Any]] = []
    for repeat, system in itertools.product(range(arguments.repeats), arguments.systems):
        for row in seconds(system, overrides, arguments.output):
            kept = {name: row[name] for name in ("round", "seconds", "accuracy")}
            rows.append({"system": system, "repeat": repeat, **kept})
        print(f"{system}: {rows[-1]['seconds']:.2f} s, accuracy {rows[-1]['accuracy']:.3f}", flush=True)
    said = {"command": command_line(), "git_commit": git_commit(), "machine": describe_machine()}
    frame = pd.DataFrame(rows).assign(**said)
    frame.to_parquet(arguments.output / "engine.parquet", index=False)
    text = table(frame, arguments.base)
    (arguments.output / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
