"""Fuzzing of everything that reads bytes: about a million mutated messages, with counts, times and memory.

    python -m tests.fuzz --record results/benchmarks/fuzz

Checksums of frames are switched off, as from a sender who computes them over what is wrong. A
message that is neither read nor refused by the typed error is written to the folder ``fuzz-failures``.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedsim.provenance import command_line, describe_machine, git_commit
from results import tables
from tests.fuzz.mutate import mutated
from tests.fuzz.targets import Target, targets, without_checksums

_UNIT = 11_000  # messages of a target with a share of one: a million together
_FAILURES = Path("fuzz-failures")


def attack(target: Target, count: int, seed: int) -> tuple[dict[str, Any], list[tuple[bytes, str]]]:
    """Give a reader mutated messages: a row of the record, and those that it could not take."""
    rng = random.Random(f"{target.name} {seed}")
    refused, slowest, failures = 0, 0.0, []
    started = time.perf_counter()
    for _ in range(count):
        data = mutated(rng, target.seeds)
        before = time.perf_counter()
        try:
            with without_checksums():
                target.parse(data)
        except target.errors:
            refused += 1
        except Exception as error:
            failures.append((data, f"{type(error).__name__}: {error}"))
        slowest = max(slowest, time.perf_counter() - before)
    row = {
        "reader": target.name,
        "messages": count,
        "refused": refused,
        "read": count - refused - len(failures),
        "failures": len(failures),
        "slowest_seconds": slowest,
        "seconds": time.perf_counter() - started,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    return row, failures


def main() -> int:
    """Attack all readers; 1 where one of them failed."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the number of messages")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations")
    parser.add_argument("--record", type=Path, help="folder to write the counts to, as Parquet and a table")
    arguments = parser.parse_args()
    rows, failed = [], 0
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder, np.errstate(over="raise", invalid="raise"):
        for target in targets(Path(folder)):
            row, failures = attack(target, max(20, round(_UNIT * target.share * arguments.scale)), arguments.seed)
            rows.append(row)
            print(
                f"{row['reader']:32} {row['messages']:7} messages, {row['refused']:7} refused, "
                f"{row['failures']} failures, {row['seconds']:6.1f} s, {row['peak_megabytes']:.0f} MB",
                flush=True,
            )
            for index, (data, reason) in enumerate(failures[:10]):
                _FAILURES.mkdir(exist_ok=True)
                (_FAILURES / f"{target.name.replace(' ', '-')}-{index}.bin").write_bytes(data)
                print(f"    {reason[:200]}")
            failed += len(failures)
    frame = pd.DataFrame(rows)
    print(f"{frame['messages'].sum():,} messages, {failed} failures")
    if arguments.record:
        arguments.record.mkdir(parents=True, exist_ok=True)
        said = {"command": command_line(), "git_commit": git_commit(), "machine": describe_machine()}
        frame.assign(**said).to_parquet(arguments.record / "fuzz.parquet", index=False)
        shown = frame.drop(columns=["seconds"]).round({"slowest_seconds": 3, "peak_megabytes": 0})
        (arguments.record / "table.md").write_text(tables.to_markdown(shown.astype(str)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
