"""Savings of the store of prefix features: a first run, a second one, and two at once.

    python -m pipelines.benchmarks.prefix

CLIP ViT-B/32 at full size with random weights, whose prefix costs what the pretrained one costs, on synthetic images.
Each run is one round of DeltaMask after the head's round. The two concurrent ones start from an empty store.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import ray
from rich.console import Console
from rich.table import Table

import fedsim

_KEPT = ["run", "feature_dtype", "prefix_images", "prefix_seconds", "store_bytes", "round_seconds", "accuracy"]


def measure(model: str, samples: int, folder: Path) -> pd.DataFrame:
    """One row a run, of its first round; ``round_seconds`` holds the start of the worker too."""
    jobs = [("first", 0, "float32", "a"), ("second", 1, "float32", "a"), ("first, half", 0, "float16", "b")]
    rows = [_run(model, samples, folder, *job) for job in jobs]
    together = [("concurrent 1", 0, "float32", "c"), ("concurrent 2", 1, "float32", "c")]
    with ThreadPoolExecutor() as pool:
        rows += pool.map(lambda job: _run(model, samples, folder, *job), together)
    return pd.DataFrame(rows)


def _run(model: str, samples: int, folder: Path, name: str, seed: int, dtype: str, store: str) -> dict[str, Any]:
    config = {
        "seed": seed,
        "rounds": 1,
        "output": str(folder / name),
        "data": {"name": "synthetic", "train_samples": samples, "test_samples": samples // 4},
        "partition": {"clients": 4},
        "model": {"name": model, "random_weights": True, "masked_blocks": 1, "feature_dtype": dtype},
        "cluster": {"workers": 1, "feature_store": str(folder / "stores" / store)},
    }
    result = fedsim.run(config)
    head = result.load().rounds.iloc[0]
    size = sum(path.stat().st_size for path in (folder / "stores" / store).rglob("features"))
    measured = {"run": name, "model": model, "samples": samples, "feature_dtype": dtype, "store_bytes": size}
    kept = {key: head[key] for key in ("prefix_images", "prefix_seconds", "round_seconds", "accuracy")}
    return measured | kept | {key: result.row[key] for key in ("seed", "config", "git_commit", "machine")}


def show(frame: pd.DataFrame) -> Table:
    """The rows as a table for the terminal."""
    table = Table(title=f"Prefix features of {frame['model'].iloc[0]}", box=None, pad_edge=False)
    for heading in _KEPT:
        table.add_column(heading.replace("_", " "), justify="left" if heading in ("run", "feature_dtype") else "right")
    for row in frame[_KEPT].to_dict("records"):
        table.add_row(*(f"{value:,.3f}" if isinstance(value, float) else f"{value}" for value in row.values()))
    return table


def main() -> None:
    """Measure, print and store as Parquet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="clip-vit-b-32", help="backbone (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=400, help="training images (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/prefix.parquet"), help="Parquet to write")
    arguments = parser.parse_args()
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        frame = measure(arguments.model, arguments.samples, Path(folder))
    Console(width=120).print(show(frame))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(arguments.output, index=False)
    print(f"results   {arguments.output}")


if __name__ == "__main__":
    main()
