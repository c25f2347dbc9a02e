"""Size and speed of the index codecs at the dimension of five ViT-B blocks.

    python -m pipelines.benchmarks.codecs

Random flips of 0.1 %, 1 % and 5 % of d = 35,389,440 mask bits, and those that a client sends in the last of some real
rounds of ``deltamask`` and of ``deltamask-plus``: CLIP's ViT-B/32 with random weights, trained on the embedded digits.
Every codec is warmed up first, so no compilation is timed; the median of the repeats counts. Beside them the entropy of
a set of that size (no code that knows the size alone can be shorter on average), and pyfusefilter's own Python class on
a subset of the work, scaled up: it hashes key by key, so its time is proportional to the keys (encoding) and to d
(decoding). It has no wire format, so it has no size.
"""

from __future__ import annotations

import argparse
import math
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
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
from pipelines.benchmarks.flips import ROUNDS, Flips, of_real_rounds

VIT_B = 35_389_440
SHARES = (0.001, 0.01, 0.05)
_FORMS = {
    "bits_per_flip": "{:.2f}",
    "bpp": "{:.5f}",
    "false_flips": "{:,.0f}",
    "encode_seconds": "{:.3f}",
    "decode_seconds": "{:.3f}",
}
#: Keys and queries that the Python class is timed on.
_SUBSET = 20_000


def random_flips(dimension: int, share: float, seed: int) -> Flips:
    """Each bit flips with the same chance, whatever theta and the uniforms are."""
    rng = np.random.Generator(np.random.Philox(key=stream_key(seed, "flips", str(share))))
    indices = np.flatnonzero(rng.random(dimension) < share).astype(np.uint64)
    return Flips(indices, np.full(dimension, 0.95, np.float32), seed)


def measure(sources: Iterable[tuple[str, Flips]], repeats: int, seed: int) -> pd.DataFrame:
    """One row a source of flips and codec."""
    rows = []
    for source, flips in sources:
        indices, dimension = flips.indices, flips.theta_d.size
        same = {"source": source, "dimension": dimension, "flips": len(indices), "share": len(indices) / dimension}
        for codec in codecs.CODECS.values():
            body, encode_seconds = _median(partial(codec.encode_given, indices, flips.theta_d, flips.key), repeats)
            decoded, decode_seconds = _median(partial(codec.decode_given, body, flips.theta_d, flips.key), repeats)
            if not np.isin(indices, decoded, assume_unique=True).all():
                raise RuntimeError(f"{codec.name}: a sent index was not decoded")
            rows.append({"codec": codec.name, **same, **_size(8 * len(body), same)})
            rows[-1] |= {"false_flips": len(decoded) - len(indices)}
            rows[-1] |= {"encode_seconds": encode_seconds, "decode_seconds": decode_seconds}
        rows.append({"codec": "entropy bound", **same, **_size(_entropy_bits(len(indices), dimension), same)})
        rows.append({"codec": "pyfusefilter.Fuse8 (scaled)", **same, **_python_loop(indices, dimension)})
    return pd.DataFrame(rows).assign(
        seed=seed,
        repeats=repeats,
        command=shlex.join(["python", "-m", "pipelines.benchmarks.codecs", *sys.argv[1:]]),
        git_commit=git_commit(),
        machine=describe_machine(),
    )


def _size(bits: float, same: dict[str, Any]) -> dict[str, float]:
    return {"bytes": bits / 8, "bits_per_flip": bits / same["flips"], "bpp": bits / same["dimension"]}


def _entropy_bits(flips: int, dimension: int) -> float:
    """log2 of the number of sets of that size."""
    ways = math.lgamma(dimension + 1) - math.lgamma(flips + 1) - math.lgamma(dimension - flips + 1)
    return ways / math.log(2)


def _python_loop(indices: np.ndarray, dimension: int) -> dict[str, float]:
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
        "encode_seconds": (built - started) * len(indices) / len(keys),
        "decode_seconds": (queried - built) * dimension / _SUBSET,
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
    for heading in ("flips", "share", "codec", "bits/flip", "bpp", "false flips", "encode s", "decode s"):
        table.add_column(heading, justify="left" if heading in ("flips", "codec") else "right")
    for row in frame.to_dict("records"):
        numbers = ("" if pd.isna(row[key]) else form.format(row[key]) for key, form in _FORMS.items())
        table.add_row(row["source"], f"{row['share']:.2%}", row["codec"], *numbers)
    return table


def main() -> None:
    """Measure, print and, unless told otherwise, store as Parquet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimension", type=int, default=VIT_B, help="bits of random masks (default: %(default)s)")
    parser.add_argument("--backbone", default="clip-vit-b-32", help="of the real rounds (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="real rounds (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=320, help="training samples of four clients")
    parser.add_argument("--repeats", type=int, default=5, help="timed repeats (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the flips (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/codecs.parquet"), help="Parquet to write")
    arguments = parser.parse_args()

    def sources() -> Iterator[tuple[str, Flips]]:
        for share in SHARES:
            yield f"random, {share:.1%}", random_flips(arguments.dimension, share, arguments.seed)
        model = {"name": arguments.backbone, "random_weights": True}
        for method in ROUNDS:
            yield (
                f"round {arguments.rounds} of {method}",
                of_real_rounds(method, model, arguments.rounds, arguments.samples, arguments.seed),
            )

    frame = measure(sources(), arguments.repeats, arguments.seed)
    Console(width=120).print(show(frame))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(arguments.output, index=False)
    print(f"results   {arguments.output}")


if __name__ == "__main__":
    main()
