"""Worth of pretraining on procedural images: the embedded backbone against the same network with random weights.

    python -m pipelines.benchmarks.backbone --cifar FOLDER

Linear probe, fine-tuning (fedavg) and DeltaMask, on the embedded digits and on a folder with CIFAR-10 in the Hugging
Face Parquet layout. Five clients, IID; both networks see the same samples in the same order.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

import fedsim

_KEPT = ["dataset", "weights", "method", "rounds", "seed", "linear_probe_accuracy", "final_accuracy", "uplink_bpp"]
_PROVENANCE = ["config", "git_commit", "machine", "wall_seconds"]


def measure(cifar: Path | None, rounds: int, seeds: int, output: str, overrides: list[str]) -> pd.DataFrame:
    """One row a run, of the ``runs`` table."""
    datasets: list[dict[str, Any]] = [{"name": "digits"}]
    if cifar is not None:
        datasets.append({"name": "parquet", "path": str(cifar), "train_samples": 2000, "test_samples": 2000})
    rows = []
    for data in datasets:
        for method, method_rounds in (("linear-probe", 1), ("fedavg", rounds), ("deltamask", rounds)):
            # The probe is cheap: it takes more samples than the others can in the time.
            samples = {"train_samples": 8000} if method == "linear-probe" and "path" in data else {}
            for random_weights in (False, True):
                for seed in range(seeds):
                    tree = {
                        "seed": seed,
                        "rounds": method_rounds,
                        "output": output,
                        "data": {**data, **samples},
                        "partition": {"clients": 5},
                        "model": {"name": "tiny-vit", "random_weights": random_weights},
                        "head": {"name": "linear-probe", "batch_size": 32},
                        "method": {"name": method},
                        "train": {"batch_size": 32},
                    }
                    rows.append(fedsim.run(fedsim.load_config(tree, overrides)).row)
    return pd.DataFrame(rows)[_KEPT + _PROVENANCE]


def show(frame: pd.DataFrame) -> Table:
    """Mean accuracy over seeds, pretrained beside random."""
    table = Table(title="tiny-vit: embedded weights against random ones", box=None, pad_edge=False)
    for heading in ("dataset", "method", "embedded", "random", "points"):
        table.add_column(heading, justify="left" if heading in ("dataset", "method") else "right")
    means = frame.groupby(["dataset", "method", "weights"], sort=False)["final_accuracy"].mean().unstack()
    for row in means.reset_index().to_dict("records"):
        gain = f"{100 * (row['embedded'] - row['random']):+.1f}"
        table.add_row(row["dataset"], row["method"], f"{row['embedded']:.3f}", f"{row['random']:.3f}", gain)
    return table


def main() -> None:
    """Measure, print and store as Parquet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--cifar", type=Path, help="folder with train.parquet and test.parquet; without it, digits alone"
    )
    parser.add_argument("--rounds", type=int, default=8, help="training rounds (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=2, help="seeds 0, 1, ... (default: %(default)s)")
    parser.add_argument("--runs", default="runs/benchmarks/backbone-runs", help="folder of the single runs")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/benchmarks/backbone.parquet"), help="Parquet to write"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of every run, such as cluster.workers=2")
    arguments = parser.parse_args()
    frame = measure(arguments.cifar, arguments.rounds, arguments.seeds, arguments.runs, arguments.overrides)
    Console(width=110).print(show(frame))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(arguments.output, index=False)
    print(f"results   {arguments.output}")


if __name__ == "__main__":
    main()
