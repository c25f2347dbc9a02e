"""Size and speed of the index codecs at the dimension of five ViT-B blocks.

    python -m pipelines.benchmarks.codecs

Random flips of 0.1 %, 1 % and 5 % of d = 35,389,440 mask bits. Every codec is warmed up first, so no compilation is
timed; the median of the repeats counts. Beside them pyfusefilter's own Python class on a subset of the work, scaled up:
it hashes key by key, so its time is proportional to the keys (encoding) and to d (decoding). It has no wire format, so
it has no size.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyfusefilter.pyfusefilter
import xxhash
from rich.console import Console
from rich.table import Table

from deltamask import codecs, stream_key
from fedsim.provenance import describe_machine, git_commit

VIT_B = 35_389_440
SHARES = (0.001, 0.01, 0.05)
_SIZES = {"bits_per_flip": "{:.2f}", "bpp": "{:.4f}", "false_flips": "{:,.0f}"}
#: Keys and queries that the Python class is timed on.
_SUBSET = 20_000


def measure(dimension: int, shares: tuple[float, ...], repeats: int, seed: int) -> pd.DataFrame:
    """One row a codec and share of flips."""
    rows = []
    for share in shares:
        rng = np.random.Generator(np.random.Philox(key=stream_key(seed, "flips", str(share))))
        indices = np.flatnonzero(rng.random(dimension) < share).astype(np.uint64)
        for codec in codecs.CODECS.values():
            body, encode_seconds = _median(partial(codec.encode, indices, dimension), repeats)
            decoded, decode_seconds = _median(partial(codec.decode, body, dimension), repeats)
            if not np.isin(indices, decoded, assume_unique=True).all():
                raise RuntimeError(f"{codec.name}: a sent index was not decoded")
            rows.append(_row(codec.name, share, indices, dimension, len(body), encode_seconds, decode_seconds))
            rows[-1]["false_flips"] = len(decoded) - len(indices)
        rows.append(_python_loop(share, indices, dimension))
    frame = pd.DataFrame(rows)
    return frame.assign(
        seed=seed,
        repeats=repeats,
        command=shlex.join(["python", "-m", "pipelines.benchmarks.codecs", *sys.argv[1:]]),
        git_commit=git_commit(),
        machine=describe_machine(),
    )


def _python_loop(share: float, indices: np.ndarray, dimension: int) -> dict[str, Any]:
    """pyfusefilter's class, built from some keys and asked for some indices, both scaled to the whole."""
    # With xxhash 4 the class raises TypeError, since it hashes text; this is its hash with that one mend.
    pyfusefilter.pyfusefilter.hash = lambda item: xxhash.xxh64_intdigest(str(item).encode())
    keys = indices[:_SUBSET].tolist()
    started = time.perf_counter()
    one = pyfusefilter.Fuse8(len(keys))
    one.populate(keys)
    built = time.perf_counter()
    found = sum(one.contains(index) for index in range(_SUBSET))
    queried = time.perf_counter()
    if found < sum(key < _SUBSET for key in keys):
        raise RuntimeError("pyfusefilter: a key was not found")
    return {
        "codec": "pyfusefilter.Fuse8 (scaled)",
        "dimension": dimension,
        "share": share,
        "flips": len(indices),
        "encode_seconds": (built - started) * len(indices) / len(keys),
        "decode_seconds": (queried - built) * dimension / _SUBSET,
    }


def _row(
    name: str,
    share: float,
    indices: np.ndarray,
    dimension: int,
    size: int,
    encode_seconds: float,
    decode_seconds: float,
) -> dict[str, Any]:
    return {
        "codec": name,
        "dimension": dimension,
        "share": share,
        "flips": len(indices),
        "bytes": size,
        "bits_per_flip": 8 * size / len(indices),
        "bpp": 8 * size / dimension,
        "encode_seconds": encode_seconds,
        "decode_seconds": decode_seconds,
    }


def _median(call: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    result = call()  # warm-up: compilation, caches, first touch of memory
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - started)
    return result, statistics.median(seconds)


def show(frame: pd.DataFrame) -> Table:
    """The rows as a table for the terminal."""
    table = Table(title=f"Index codecs at d = {frame['dimension'].iloc[0]:,}", box=None, pad_edge=False)
    for heading in ("flips", "codec", "bits/flip", "bpp", "false flips", "encode s", "decode s"):
        table.add_column(heading, justify="left" if heading == "codec" else "right")
    for row in frame.to_dict("records"):
        table.add_row(
            f"{row['share']:.1%}",
            row["codec"],
            *("" if pd.isna(row[key]) else form.format(row[key]) for key, form in _SIZES.items()),
            f"{row['encode_seconds']:.3f}",
            f"{row['decode_seconds']:.3f}",
        )
    return table


def main() -> None:
    """Measure, print and, unless told otherwise, store as Parquet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimension", type=int, default=VIT_B, help="mask bits d (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="timed repeats (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the flips (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/codecs.parquet"), help="Parquet to write")
    arguments = parser.parse_args()
    frame = measure(arguments.dimension, SHARES, arguments.repeats, arguments.seed)
    Console(width=110).print(show(frame))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(arguments.output, index=False)
    print(f"results   {arguments.output}")


if __name__ == "__main__":
    main()
