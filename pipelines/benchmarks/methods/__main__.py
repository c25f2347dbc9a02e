"""Tables and figures of the comparison, from the runs of its sweeps.

    for sweep in pipelines/benchmarks/methods/*.yaml; do fedsim sweep $sweep data.path=FOLDER; done
    python -m pipelines.benchmarks.methods

FOLDER has CIFAR-10 in the Hugging Face Parquet layout. Sweeps go on where they were interrupted; what has finished so
far is collected, and joins what was collected before. For each backbone: ``NAME.parquet`` with a row a run that counts
(of the seeds that confirm what a search found), its rounds and clients, ``NAME-tuning.parquet`` with the runs of the
searches, ``NAME.md``, ``NAME.png``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from rich.console import Console

import results
from pipelines.benchmarks.methods.rows import with_labels
from pipelines.benchmarks.sweeps import by_client, finished
from results import figures, tables
from results.figures.style import Style, bytes_axis, style

#: Seed of the searches; other seeds confirm what they found, and these are what tables show.
TUNING_SEED = 0
BUDGETS = (0.1e6, 0.3e6, 1e6, 10e6)
_SPAN = 0.13  # of accuracies in a picture, from the best one down; what is below stands at the edge with its number
_KEYS = ["label", "alpha"]
_RULES = """\
Every byte of every round and both directions counts, for all methods by the same rules: frames, norms and scales, the
head's round, sample counts where clients are weighted by them. A client is sent what it lacks as the shortest of the
whole state, the server's delta and the uploads of the round to replay. Totals are those of one client over the whole
run, the mean over clients; the state after the last round stays at the server.

Assumed for all: both sides have the backbone and the run's seed; the server has a validation set (a share of the
training samples, which no client has), used for the search of the settings, for the temperature of the head, and to
choose the round whose test accuracy is shown, the head alone included.
"""


def collect(runs: str) -> results.Results:
    """The finished runs below a folder, with their labels."""
    loaded = finished(runs)
    return results.Results(with_labels(loaded.runs), loaded.rounds, loaded.clients)


def confirmed(loaded: results.Results, backbone: str) -> results.Results:
    """The runs of one backbone that tables show."""
    runs = loaded.runs[(loaded.runs["backbone"] == backbone) & (loaded.runs["seed"] != TUNING_SEED)]
    rounds, clients = (frame[frame["run_id"].isin(runs["run_id"])] for frame in (loaded.rounds, loaded.clients))
    return results.Results(runs, rounds, clients)


def joined(new: results.Results, folder: Path, backbone: str, part: str = "") -> results.Results:
    """New runs of a backbone, and those of rows that they do not replace, from the files of an earlier collection."""
    runs, rounds, clients = new.runs, new.rounds, new.clients
    known = {tuple(row) for row in runs[_KEYS].itertuples(index=False)}
    if (file := folder / f"{backbone}{part}.parquet").exists():
        before = with_labels(pd.read_parquet(file))  # as the sweep files name them now
        before = before[[tuple(row) not in known for row in before[_KEYS].itertuples(index=False)]]
        runs = pd.concat([before, runs], ignore_index=True)
        if not part:
            older = (pd.read_parquet(folder / f"{backbone}-{table}.parquet") for table in ("rounds", "clients"))
            kept = (frame[frame["run_id"].isin(before["run_id"])] for frame in older)
            rounds, clients = (
                pd.concat([a, b], ignore_index=True) for a, b in zip(kept, (rounds, clients), strict=True)
            )
    return results.Results(runs, rounds, clients)


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a label and partition: accuracy over seeds, and bytes of one client over the whole run."""
    table = tables.groups(by_client(runs), by=_KEYS, accuracy="best_accuracy")
    fronts = [tables.pareto_front(part) for _, part in table.groupby("alpha")]
    table["front"] = table.index.isin([index for front in fronts for index in front.index])
    return table


def markdown(loaded: results.Results) -> str:
    """The rules, a table of accuracies and totals, and one of accuracies at fixed totals."""
    table = summary(loaded.runs)
    alphas = sorted(table["alpha"].unique(), reverse=True)
    budget = tables.accuracy_at_bytes(loaded, BUDGETS, by=_KEYS)
    parts = []
    for alpha in alphas:
        rows = table[table["alpha"] == alpha].sort_values("total_bytes", kind="stable").set_index("label")
        spread = [results.formats.spread(*pair) for pair in zip(rows["accuracy"], rows["accuracy_std"], strict=True)]
        at = budget[budget["alpha"] == alpha].groupby("label")[[f"accuracy at {b / 1e6:g} MB" for b in BUDGETS]].mean()
        columns = {
            f"Dir({alpha:g})": pd.Series(spread, rows.index),
            "up kB": (rows["uplink_bytes"] / 1e3).map("{:,.1f}".format),
            "down kB": (rows["downlink_bytes"] / 1e3).map("{:,.1f}".format),
            "total kB": (rows["total_bytes"] / 1e3).map("{:,.1f}".format),
            **{f"at {b / 1e6:g} MB": _points(at[f"accuracy at {b / 1e6:g} MB"]) for b in BUDGETS},
            "front": rows["front"].map({True: "yes", False: ""}),
        }
        shown = pd.DataFrame(columns).loc[rows.index].rename_axis("method").reset_index()
        parts.append(tables.to_markdown(shown))
    return _RULES + "\n" + "\n".join(parts)


def _points(accuracy: pd.Series[float]) -> pd.Series[str]:
    return (100 * accuracy).map(lambda value: "" if pd.isna(value) else f"{value:.1f}")


def picture(loaded: results.Results) -> Figure:
    """Accuracy against all bytes of a client, a panel a partition, with the front; bars: deviation over seeds."""
    table = summary(loaded.runs)
    figure = Figure(figsize=(13.0, 6.0), layout="constrained")
    panels = figure.subplots(1, table["alpha"].nunique(), sharey=True, squeeze=False)[0]
    looks = _looks(table["label"].unique().tolist())
    floor = table["accuracy"].max() - _SPAN
    for panel, (alpha, rows) in zip(panels, sorted(table.groupby("alpha"), reverse=True), strict=True):
        for row in rows.to_dict("records"):
            look, low = looks[row["label"]], row["accuracy"] < floor
            if low:
                place = (row["total_bytes"], floor)
                number = results.formats.spread(row["accuracy"], row["accuracy_std"])
                panel.annotate(number, place, (0, 8), textcoords="offset points", ha="center", fontsize="x-small")
            panel.errorbar(
                row["total_bytes"],
                floor if low else row["accuracy"],
                0 if low else row["accuracy_std"],
                fmt=look.marker,
                color=look.color,
                fillstyle=look.fillstyle,
                label=row["label"],
                capsize=2,
            )
        front = rows[rows["front"]].sort_values("total_bytes")
        panel.step(front["total_bytes"], front["accuracy"], where="post", color="grey", linewidth=0.8, zorder=0)
        panel.set(title=f"Dirichlet {alpha:g}", xlabel="uplink and downlink of a client over the whole run")
        panel.set_ylim(floor - 0.005)
        bytes_axis(panel)
        panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("test accuracy")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize="small")
    return figure


def _looks(labels: list[str]) -> dict[str, Style]:
    variants: dict[str, int] = {}
    looks = {}
    for label in labels:
        method = label.partition(",")[0]
        looks[label] = style(method, variants.setdefault(method, 0))
        variants[method] += 1
    return looks


def main() -> None:
    """Collect, print and store."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", default="runs/benchmarks/methods", help="output of the sweeps (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/methods"), help="default: %(default)s")
    arguments = parser.parse_args()
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    loaded = collect(arguments.runs)
    for backbone in loaded.runs["backbone"].unique():
        shown = joined(confirmed(loaded, backbone), output, backbone)
        tried = loaded.runs[(loaded.runs["backbone"] == backbone) & (loaded.runs["seed"] == TUNING_SEED)]
        tuning = joined(results.Results(tried, loaded.rounds, loaded.clients), output, backbone, "-tuning").runs
        shown.runs.to_parquet(output / f"{backbone}.parquet", index=False)
        shown.rounds.to_parquet(output / f"{backbone}-rounds.parquet", index=False)
        shown.clients.to_parquet(output / f"{backbone}-clients.parquet", index=False)
        tuning.to_parquet(output / f"{backbone}-tuning.parquet", index=False)
        text = markdown(shown)
        (output / f"{backbone}.md").write_text(text)
        figures.save(picture(shown), output / f"{backbone}.png")
        Console(width=180).print(text, markup=False)
    print(f"results   {output}")


if __name__ == "__main__":
    main()
