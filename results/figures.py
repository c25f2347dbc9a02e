"""Figures of result tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from results.frames import Results

#: Okabe and Ito's colour-blind safe palette.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SHOWN_CLIENTS, _NAMED_CLASSES = 1000, 30


def accuracy_and_bpp(results: Results) -> Figure:
    """Test accuracy and uplink bits per masked parameter over rounds, one line a run.

    The dotted line is the accuracy after the head's round, where a run starts from. The bpp panel leaves that round
    out: it sends a head, not a mask.
    """
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    accuracy, bpp = figure.subplots(1, 2)
    labels = _labels(results)
    for index, (run_id, label) in enumerate(labels.items()):
        colour = COLOURS[index % len(COLOURS)]
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


def label_counts(counts: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """Who has which labels: a picture of clients by labels, above it how many samples each client has.

    Args:
        counts: samples, int64 of shape ``(clients, classes)``; the first 1,000 clients are drawn.
        classes: names of the labels.
        title: what the split is.
    """
    shown = counts[:_SHOWN_CLIENTS]
    figure = Figure(figsize=(9.0, 2.6 + min(5.0, 0.22 * len(classes))), layout="constrained")
    sizes, picture = figure.subplots(2, 1, sharex=True, height_ratios=[1, max(1.5, 0.16 * min(len(classes), 30))])
    clients = np.arange(len(shown))
    sizes.bar(clients, shown.sum(1), width=1.0 if len(shown) > 60 else 0.8, color=COLOURS[0])
    sizes.set(title=title, ylabel="samples")
    sizes.spines[["top", "right"]].set_visible(False)
    shares = shown / shown.sum(1, keepdims=True)
    image = picture.imshow(shares.T, aspect="auto", interpolation="nearest", cmap="viridis", vmin=0, vmax=1)
    picture.set_xlabel("client" if len(shown) == len(counts) else f"client (the first {len(shown)} of {len(counts)})")
    if len(classes) <= _NAMED_CLASSES:
        picture.set_yticks(range(len(classes)), classes)
    else:
        picture.set_ylabel("label")
    picture.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(image, ax=picture, label="share of the client's samples", format=PercentFormatter(1.0))
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
