"""Seconds a round on a GPU: the paper's CLIP backbones at full size, by precision and workers that share the GPU.

    python -m pipelines.benchmarks.gpu

Rows are added to those of earlier calls with the same ``--output``.

Weights are random, images synthetic, and 30 clients have 256 images each: speed depends on none of them. A round's
training is timed apart from its evaluation, after a round that warms up. The share of peak is that of a large matrix
product of the same precision in the same minute. It leaves out the images' way through the frozen prefix, which is done
once, and several GPUs.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import deltamask as dm
import fedsim
from fedsim.models import build_model
from fedsim.provenance import command_line, describe_machine, git_commit
from results import tables

CLIENTS, SAMPLES, TEST_SAMPLES, ROUNDS = 30, 256, 1024, 4


def configuration(model: str, precision: str, method: str, workers: int, overrides: list[str]) -> fedsim.Config:
    """A run of :data:`ROUNDS` rounds whose evaluation comes at the end alone."""
    tree = {
        "rounds": ROUNDS,
        "data": {
            "name": "synthetic",
            "train_samples": CLIENTS * SAMPLES,
            "test_samples": TEST_SAMPLES,
            "validation": 0,
        },
        "partition": {"clients": CLIENTS},
        "model": {"name": model, "random_weights": True, "feature_dtype": "float16"},
        "method": {"name": method},
        "train": {"precision": precision},
        "evaluate": {"every": ROUNDS},
        "cluster": {
            "workers": workers,
            "cpus_per_worker": max(1, len(os.sched_getaffinity(0)) // workers),
            "gpus_per_worker": 1 / workers,
            "gpu_features_gb": 8,
            "checkpoint_rounds": 1000,
        },
    }
    return fedsim.load_config(tree, overrides)


def peak_flops(precision: str, size: int = 8192) -> float:
    """Operations a second of a large matrix product on the GPU."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(10):
        a @ b
    torch.cuda.synchronize()
    return 10 * 2 * size**3 / (time.perf_counter() - started)


def flops_a_sample(config: fedsim.Config, batch: int = 4) -> float:
    """Operations of one sample's forward and backward pass through the masked blocks, counted on the CPU."""
    model = build_model(config.model, classes=10)
    size = model.backbone.input_size
    features = model.prefix_features(np.zeros((batch, size, size, 3), np.uint8))
    net = dm.MaskedModule(model.network, model.masked_names)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(net(features, key=0), torch.zeros(batch, dtype=torch.int64)).backward()
    return counter.get_total_flops() / batch


class Memory(threading.Thread):
    """Most memory that is in use on the GPU, by all processes, bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self._ended = 0, threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.2):
            free, total = torch.cuda.mem_get_info()
            self.peak = max(self.peak, total - free)

    def __enter__(self) -> Memory:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


def measure(config: fedsim.Config, flops: float, peak: float) -> dict[str, Any]:
    """One row: a run's rounds after the first, without the last one's evaluation."""
    with Memory() as memory:
        result = fedsim.run(config, fresh=True, callbacks=[Seconds()]).load()
    rounds = result.rounds[result.rounds["round"] >= 2]
    clients = result.clients[result.clients["round"] >= 2]
    seconds = (rounds["round_seconds"] - rounds["evaluate_seconds"]).median()
    assert config.train is not None
    rate = clients.groupby("round")["samples"].sum().mean() / seconds
    return {
        "model": config.model.name,
        "precision": config.train.precision,
        "method": config.method.name,
        "workers": config.cluster.workers,
        "masked_parameters": result.runs["masked_parameters"].iloc[0],
        "round_seconds": seconds,
        "samples_per_second": rate,
        "flops_per_sample": flops,
        "peak_flops": peak,
        "share_of_peak": rate * flops / peak,
        "client_train_seconds": clients["train_seconds"].mean(),
        "client_encode_seconds": clients["encode_seconds"].mean(),
        "server_decode_seconds": clients["decode_seconds"].mean(),
        "aggregate_seconds": rounds["aggregate_seconds"].median(),
        "evaluate_seconds": rounds["evaluate_seconds"].dropna().max(),
        "gpu_bytes": memory.peak,
        "uplink_bpp": result.runs["uplink_bpp"].iloc[0],
    }


class Seconds(fedsim.Callback):
    """Prints where the time of each round went."""

    def round(self, run: fedsim.Run, row: Mapping[str, Any]) -> None:
        parts = ("round", "train", "encode", "decode", "aggregate", "evaluate", "prefix")
        seconds = {part: row[f"{part}_seconds"] for part in parts if f"{part}_seconds" in row}
        print(f"  round {row['round']}", {part: round(value, 2) for part, value in seconds.items()}, flush=True)


def table(frame: pd.DataFrame) -> str:
    """The columns that a reader compares, as Markdown."""
    shown = pd.DataFrame(
        {
            "model": frame["model"],
            "precision": frame["precision"],
            "method": frame["method"],
            "workers": frame["workers"],
            "round, s": frame["round_seconds"].round(2),
            "samples/s": frame["samples_per_second"].round(0).astype(int),
            "share of peak": (100 * frame["share_of_peak"]).round(1).astype(str) + " %",
            "a client: training, s": frame["client_train_seconds"].round(3),
            "encoding, s": frame["client_encode_seconds"].round(3),
            "decoding, s": frame["server_decode_seconds"].round(3),
            "GPU memory, GB": (frame["gpu_bytes"] / 1e9).round(1),
        }
    )
    return tables.to_markdown(shown.astype(str))


def main() -> None:
    """Measure what is asked for, print it as it comes and store it as Parquet and a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["clip-vit-b-32", "clip-vit-l-14"])
    parser.add_argument("--precisions", nargs="+", default=["float32", "tf32", "bf16"])
    parser.add_argument("--methods", nargs="+", default=["deltamask"])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--runs", default="runs/benchmarks/gpu-runs", help="folder of the single runs")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/gpu"), help="folder to write")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of every run, such as train.batch_size=128")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("this torch sees no CUDA GPU, which this measures")
    arguments.output.mkdir(parents=True, exist_ok=True)
    peaks = {precision: peak_flops(precision) for precision in arguments.precisions}
    stored = arguments.output / "gpu.parquet"
    earlier = [pd.read_parquet(stored)] if stored.exists() else []
    rows: list[dict[str, Any]] = []
    overrides = [f"output={arguments.runs}", *arguments.overrides]
    for model in arguments.models:
        flops = flops_a_sample(configuration(model, "float32", "deltamask", 1, overrides))
        for precision, method, workers in product(arguments.precisions, arguments.methods, arguments.workers):
            config = configuration(model, precision, method, workers, overrides)
            rows.append(measure(config, flops, peaks[precision]))
            print({name: value for name, value in rows[-1].items() if name != "flops_per_sample"}, flush=True)
            said = {"command": command_line(), "git_commit": git_commit(), "machine": describe_machine()}
            new = pd.DataFrame(rows).assign(gpu=torch.cuda.get_device_name(), **said)
            frame = pd.concat([*earlier, new], ignore_index=True)
            frame.to_parquet(stored, index=False)
    (arguments.output / "table.md").write_text(table(frame))
    print(table(frame))


if __name__ == "__main__":
    main()
