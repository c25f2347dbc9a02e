"""Figures of result tables."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from results.frames import Results

# Okabe and Ito's colour-blind safe palette.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def accuracy_and_bpp(results: Results) -> Figure:
    """Test accuracy and uplink bits per masked parameter over rounds, one line a run.

    The dotted line is the accuracy after the head's round, where a run starts from. The bpp panel leaves that round
    out: it sends a head, not a mask.
    """
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    accuracy, bpp = figure.subplots(1, 2)
    labels = _labels(results)
    for index, (run_id, label) in enumerate(labels.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        rounds = results.rounds[results.rounds["run_id"] == run_id]
        accuracy.plot(rounds["round"], rounds["accuracy"], color=colour, marker=".", label=label)
        start = rounds.loc[rounds["round"] == 0, "accuracy"]
        if not start.empty:
            accuracy.axhline(start.iloc[0], color=colour, linestyle=":", linewidth=1.2)
        trained = rounds[rounds["round"] > 0]
        bpp.plot(trained["round"], trained["uplink_bpp"], color=colour, marker=".", label=label)
    accuracy.set(title="Test accuracy (dotted: linear probe)", xlabel="round")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    bpp.set(title="Uplink, bits per masked parameter and client", xlabel="round")
    bpp.set_ylim(bottom=0)
    for axes in (accuracy, bpp):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    if 0 < len(labels) <= 12:
        accuracy.legend(frameon=False, fontsize="small")
    return figure


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG at 150 dpi and return its path."""
    path = Path(path)
    path = path if path.suffix else path.with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def _labels(results: Results) -> dict[str, str]:
    """A label for each run: method and dataset, with the seed and, where still ambiguous, the run's name."""
    runs = results.runs
    for columns in (["method", "dataset"], ["method", "dataset", "seed"], ["run_id"]):
        labels = runs[columns].astype(str).agg(", ".join, axis=1)
        if labels.is_unique:
            break
    return dict(zip(runs["run_id"], labels, strict=True))
