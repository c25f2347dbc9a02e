"""Every method of the comparison on one problem: accuracy, spread over seeds, real bytes in both directions, seconds.

    python -m pipelines.benchmarks.methods --data FOLDER --output results/benchmarks/methods
    python -m pipelines.benchmarks.methods --rows ablation --data FOLDER --output results/benchmarks/ablation

The embedded backbone on a folder with CIFAR-10 in the Hugging Face Parquet layout (without ``--data``, on the embedded
digits): ten clients, nearly IID (Dirichlet 10) and with few labels each (Dirichlet 0.1). Runs are spread over
``--processes``, one thread each; finished ones are not run again, so the benchmark goes on where it was stopped.
Learning rates were chosen per family at seed 0 and Dirichlet 10, among the values named in :data:`METHODS`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from rich.console import Console

import fedsim
from results import figures

ALPHAS = (10.0, 0.1)

_PLUS = "method.name=deltamask-plus"

#: Overrides of each row of the table. Tried: dense 1e-3, 3e-3 and 1e-2; masks 0.1 and 0.3; normalised SGD 0.03 to 0.3.
METHODS: dict[str, list[str]] = {
    "linear-probe": ["method.name=linear-probe"],
    "fedavg": ["method.name=fedavg", "train.lr=3e-3"],
    "fedavg, momentum": ["method.name=fedavg", "method.server_momentum=0.9", "train.lr=1e-3"],
    "fedmask": ["method.name=fedmask"],
    "fedpm": ["method.name=fedpm", "train.lr=0.3"],
    "deltamask": ["method.name=deltamask"],
    "deltamask, lr 0.3": ["method.name=deltamask", "train.lr=0.3"],
    "deltamask, range": ["method.name=deltamask", "method.codec=range"],
    "deltamask-plus": [_PLUS],
    "deltamask-plus, theta 0.99": [_PLUS, "method.theta_init=0.99", "method.kappa=0.5"],
    "deltamask-plus, lr 0.1": [_PLUS, "train.lr=0.1", "method.kappa=1"],
    "qsgd": ["method.name=qsgd", "train.lr=3e-3"],
    "drive": ["method.name=drive", "train.lr=3e-3"],
    "eden, 4 bits": ["method.name=eden", "method.compressor.rate=4", "train.lr=3e-3"],
    "eden, 1 bit": ["method.name=eden", "train.lr=3e-3"],
    "eden, 0.09 bits": ["method.name=eden", "method.compressor.rate=0.09", "train.lr=3e-3"],
    "eden, 0.01 bits": ["method.name=eden", "method.compressor.rate=0.01", "train.lr=3e-3"],
    "eden, 0.01 bits, momentum": [
        "method.name=eden",
        "method.compressor.rate=0.01",
        "method.server_momentum=0.9",
        "train.lr=1e-3",
    ],
    "deepreduce": ["method.name=deepreduce", "train.lr=3e-3"],
    "fedavg, top-k": [
        "method.name=fedavg",
        "method.compressor.name=top-k",
        "method.error_feedback=true",
        "train.lr=3e-3",
    ],
    "lora": ["method.name=lora", "train.lr=1e-2"],
    "lora, float16": ["method.name=lora", "method.compressor.dtype=float16", "train.lr=1e-2"],
    "lora, eden 1 bit": ["method.name=lora", "method.compressor.name=eden", "train.lr=1e-2"],
    "bitfit": ["method.name=bitfit", "train.lr=1e-2"],
}
#: One thing of ``deltamask-plus`` changed at a time; the kappas of other selections spend about the same bytes.
ABLATION: dict[str, list[str]] = {
    "deltamask-plus": [_PLUS],
    "without momentum": [_PLUS, "method.server_momentum=0"],
    "without weights of clients": [_PLUS, "method.weighting=uniform"],
    "posterior, without both": [_PLUS, "method.aggregation=posterior"],
    "Adam, lr 0.1": [_PLUS, "train.optimizer=adam", "train.lr=0.1"],
    "selection by KL": [_PLUS, "method.selection=kl", "method.kappa=0.265"],
    "random selection": [_PLUS, "method.selection=random", "method.kappa=0.19"],
    "kappa 1": [_PLUS, "method.kappa=1"],
    "fuse8+png": [_PLUS, "method.codec=fuse8+png"],
    "flip penalty 1e-4": [_PLUS, "method.flip_penalty=1e-4"],
    "deltamask, common uniforms": ["method.name=deltamask", "method.reference=common"],
    "deltamask, independent uniforms": ["method.name=deltamask", "method.reference=independent"],
}
ROWS = {"methods": METHODS, "ablation": ABLATION}
_SECONDS = ["train_seconds", "encode_seconds", "decode_seconds"]
_KEPT = ["run_id", "alpha", "seed", "rounds", "clients", "masked_parameters", "linear_probe_accuracy", "final_accuracy"]
_PROVENANCE = ["config", "version", "git_commit", "machine"]


def _jobs(arguments: argparse.Namespace) -> Iterator[tuple[str, fedsim.Config]]:
    data: dict[str, Any] = {"name": "digits"}
    if arguments.data:
        data = {"name": "parquet", "path": str(arguments.data), "train_samples": 3000, "test_samples": 1000}
    for seed in range(arguments.seeds):
        for alpha in ALPHAS:
            for label, overrides in ROWS[arguments.rows].items():
                tree = {
                    "seed": seed,
                    "rounds": 1 if label == "linear-probe" else arguments.rounds,
                    "output": arguments.runs,
                    "data": data,
                    "partition": {"name": "dirichlet", "clients": 10, "alpha": alpha},
                    "head": {"batch_size": 32},
                    "train": {"batch_size": 32},
                    "cluster": {"executor": "serial"},
                }
                yield label, fedsim.load_config(tree, [*overrides, *arguments.overrides])


def _measure(label: str, config: fedsim.Config) -> dict[str, Any]:
    """One row of the result: a whole run, without the head's round in bytes and seconds."""
    loaded = fedsim.run(config).load()
    run, rounds = loaded.runs.iloc[0], loaded.rounds[loaded.rounds["round"] > 0]
    client_rounds = rounds["participants"].sum()
    return {
        "label": label,
        **{name: run[name] for name in (*_KEPT, *_PROVENANCE)},
        # The mean of the last three rounds: single rounds are noisy under skewed clients.
        "accuracy": rounds["accuracy"].tail(3).mean(),
        "best_accuracy": rounds["accuracy"].max(),
        "bound_share": rounds["bound_share"].iloc[-1],
        "uplink_bpp": run.uplink_bpp,
        "uplink_bytes": rounds["uplink_bytes"].sum() / client_rounds,
        "downlink_bytes": rounds["downlink_bytes"].sum() / client_rounds,
        **{name: rounds[name].sum() / client_rounds for name in _SECONDS},
    }


def measure(arguments: argparse.Namespace) -> pd.DataFrame:
    """One row a run, in the order of seeds, partitions and :data:`ROWS`."""
    jobs = list(_jobs(arguments))
    with ProcessPoolExecutor(arguments.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_measure, label, config) for label, config in jobs]
        for done, future in enumerate(as_completed(futures), start=1):
            row = future.result()
            print(f"{done}/{len(jobs)}  {row['label']}, alpha {row['alpha']:g}, seed {row['seed']}", flush=True)
        frame = pd.DataFrame([future.result() for future in futures])
    return frame.assign(command=shlex.join(["python", "-m", "pipelines.benchmarks.methods", *sys.argv[1:]]))


def table(frame: pd.DataFrame) -> str:
    """Markdown: a row a method, accuracies as mean and standard deviation over seeds, in points."""
    shown = {f"accuracy, Dir({alpha:g})": _spread(frame[frame["alpha"] == alpha]) for alpha in sorted(ALPHAS)[::-1]}
    means = frame.groupby("label", sort=False)[
        ["uplink_bpp", "uplink_bytes", "downlink_bytes", "bound_share", *_SECONDS]
    ].mean()
    shown["uplink bpp"] = means["uplink_bpp"].map("{:.4f}".format)
    for name in ("uplink", "downlink"):
        shown[f"{name} kB"] = (means[f"{name}_bytes"] / 1000).map("{:,.1f}".format)
    shown["total kB"] = ((means["uplink_bytes"] + means["downlink_bytes"]) / 1000).map("{:,.1f}".format)
    shown["theta at bounds"] = means["bound_share"].map(lambda share: "" if pd.isna(share) else f"{share:.2f}")
    for name in _SECONDS:
        shown[name.replace("_seconds", " s")] = means[name].map("{:.3f}".format)
    columns = pd.DataFrame(shown)
    lines = [["method", *columns], ["---", *["---:"] * len(columns.columns)]]
    lines += [[f"`{label}`", *row] for label, row in zip(columns.index, columns.to_numpy().tolist(), strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _spread(frame: pd.DataFrame) -> pd.Series[str]:
    groups = 100 * frame.groupby("label", sort=False)["accuracy"].agg(["mean", "std"])
    return groups["mean"].map("{:.1f}".format) + " ± " + groups["std"].map("{:.1f}".format)


def picture(frame: pd.DataFrame) -> Figure:
    """Accuracy against bytes, a panel a partition and direction; bars are the standard deviation over seeds."""
    figure = Figure(figsize=(11.0, 8.0), layout="constrained")
    axes = figure.subplots(2, 2, sharey="row")
    directions = (("uplink_bytes", "uplink"), ("both_bytes", "uplink and downlink"))
    frame = frame.assign(both_bytes=frame["uplink_bytes"] + frame["downlink_bytes"])
    markers = "osD^vP*X"
    for row, alpha in zip(axes, sorted(ALPHAS)[::-1], strict=True):
        groups = frame[frame["alpha"] == alpha].groupby("label", sort=False)
        for panel, (column, what) in zip(row, directions, strict=True):
            for index, (label, runs) in enumerate(groups):
                panel.errorbar(
                    runs[column].mean(),
                    runs["accuracy"].mean(),
                    runs["accuracy"].std(),
                    fmt=markers[index // len(figures.COLOURS)],
                    color=figures.COLOURS[index % len(figures.COLOURS)],
                    label=label,
                    capsize=2,
                )
            panel.set(xscale="log", title=f"Dirichlet {alpha:g}", xlabel=f"{what}, bytes a client-round")
            panel.grid(alpha=0.3)
            panel.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel("test accuracy")
        row[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    return figure


def main() -> None:
    """Measure, print and store: ``ROWS.parquet``, ``table.md`` and ``accuracy.png``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", choices=ROWS, default="methods", help="which comparison (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="folder with train.parquet and test.parquet; digits without it")
    parser.add_argument("--rounds", type=int, default=10, help="training rounds (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ... (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="runs at once (default: %(default)s)")
    parser.add_argument("--runs", default="runs/benchmarks/methods-runs", help="folder of the single runs")
    parser.add_argument("--output", type=Path, help="folder to write (default: runs/benchmarks/ROWS)")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of every run")
    arguments = parser.parse_args()
    output = arguments.output or Path("runs/benchmarks") / arguments.rows
    frame = measure(arguments)
    output.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(output / f"{arguments.rows}.parquet", index=False)
    (output / "table.md").write_text(table(frame))
    figures.save(picture(frame), output / "accuracy.png")
    Console(width=180).print(table(frame), markup=False)
    print(f"results   {output}")


if __name__ == "__main__":
    main()
