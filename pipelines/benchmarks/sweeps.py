"""Results of a finished sweep as what is committed: Parquet and a table.

    fedsim sweep pipelines/benchmarks/masks.yaml data.path=FOLDER
    python -m pipelines.benchmarks.sweeps masks

FOLDER has CIFAR-10 in the Hugging Face Parquet layout. ``masks`` is the folder below ``runs/benchmarks`` that the sweep
writes, and below ``results/benchmarks`` the one that gets ``runs.parquet``, ``rounds.parquet`` and ``table.md``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

import results
from results import formats, tables


def finished(folder: str) -> results.Results:
    """The finished runs below a folder, without their commands and without the paths of one machine."""
    loaded = results.load(folder, where={"status": "finished"})
    configs = [json.loads(config) for config in loaded.runs["config"]]
    for config in configs:
        config["output"] = Path(config["output"]).name
        for group, key in (("data", "path"), ("model", "checkpoint")):
            if config[group].get(key):
                config[group][key] = Path(config[group][key]).name
    runs = loaded.runs.drop(columns="command").assign(config=[json.dumps(config) for config in configs])
    return results.Results(runs, loaded.rounds, loaded.clients)


def by_client(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with the bytes of one client, the mean over clients, in place of those of all."""
    return runs.assign(**{name: runs[name] / runs["clients"] for name in ("uplink_bytes", "downlink_bytes")})


def markdown(runs: pd.DataFrame) -> str:
    """A row for what varies, seeds aside: the head alone, the round that is best on validation samples, bytes."""
    table = tables.groups(by_client(runs), accuracy="best_accuracy")
    keys = table.attrs["keys"]
    heads = tables.groups(runs, by=keys, accuracy="linear_probe_accuracy")
    for name, rows in (("head alone", heads), ("accuracy", table)):
        table[name] = [formats.spread(*pair) for pair in zip(rows["accuracy"], rows["accuracy_std"], strict=True)]
    kilobytes = {name: (table[f"{name}link_bytes"] / 1e3).map("{:,.1f}".format) for name in ("up", "down")}
    shown = pd.concat([table[[*keys, "head alone", "accuracy"]], pd.DataFrame(kilobytes).add_suffix(" kB")], axis=1)
    return tables.to_markdown(shown.sort_values(keys, kind="stable"))


def main() -> None:
    """Collect, print and store."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="folder below runs/benchmarks and results/benchmarks")
    name = parser.parse_args().name
    loaded, output = finished(f"runs/benchmarks/{name}"), Path("results/benchmarks", name)
    output.mkdir(parents=True, exist_ok=True)
    loaded.runs.to_parquet(output / "runs.parquet", index=False)
    loaded.rounds.to_parquet(output / "rounds.parquet", index=False)
    text = markdown(loaded.runs)
    (output / "table.md").write_text(text)
    print(text)
    print(f"results   {output}")


if __name__ == "__main__":
    main()
