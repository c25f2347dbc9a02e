"""Simulated time to an accuracy, from the runs of a finished sweep, as what is committed: Parquet, a table, figures.

    fedsim sweep pipelines/benchmarks/world.yaml
    python -m pipelines.benchmarks.world

Reads ``runs/benchmarks/world`` and writes ``results/benchmarks/world``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

import results
from pipelines.benchmarks.sweeps import by_client, finished
from results import figures, tables

#: The accuracy to reach: above what the head alone has, below what the best methods reach.
TARGET = 0.97
NAME = "world"


def link(config: str) -> str:
    """The links of a run, from its configuration as JSON."""
    world = json.loads(config)["world"]
    return str(world["profile"] or Path(world["table"]).stem)


def table(runs: pd.DataFrame, rounds: pd.DataFrame) -> str:
    """A row a method: accuracy, bytes of a client, and simulated time to :data:`TARGET` over each kind of link."""
    loaded = results.Results(runs, rounds, pd.DataFrame())
    reached = tables.seconds_to_target(loaded, TARGET, by=["run_id"]).set_index("run_id")["seconds"]
    runs = by_client(runs).assign(link=runs["config"].map(link), seconds=runs["run_id"].map(reached))
    rows = []
    for method, of_method in runs.groupby("method", sort=False):
        row = {"method": method, "final accuracy": f"{100 * of_method['final_accuracy'].mean():.1f}"}
        for way in ("up", "down"):
            row[f"{way}, kB a client"] = f"{of_method[f'{way}link_bytes'].mean() / 1e3:,.0f}"
        for name, of_link in of_method.groupby("link"):
            seconds = of_link["seconds"]
            row[f"{name}, s"] = "never" if seconds.isna().any() else f"{seconds.mean():,.1f}"
        rows.append(row)
    return tables.to_markdown(pd.DataFrame(rows))


def main() -> None:
    """Collect, print and store."""
    loaded, output = finished(f"runs/benchmarks/{NAME}"), Path("results/benchmarks", NAME)
    output.mkdir(parents=True, exist_ok=True)
    loaded.runs.to_parquet(output / "runs.parquet", index=False)
    loaded.rounds.to_parquet(output / "rounds.parquet", index=False)
    links = loaded.runs["config"].map(link)
    for name in links.unique():
        of_link = results.Results(loaded.runs[links == name], loaded.rounds, loaded.clients)
        figure = figures.over_rounds(of_link, x="simulated", by=["method"])
        figure.axes[0].set_xscale("log")
        figure.savefig(output / f"accuracy-{name}.png")
    text = table(loaded.runs, loaded.rounds)
    (output / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
