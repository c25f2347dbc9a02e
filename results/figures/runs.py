"""Figures of single runs."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from results.figures.style import as_written, plain, style
from results.frames import Results


def accuracy_and_bpp(results: Results) -> Figure:
    """Test accuracy and uplink bits per masked parameter over rounds, one line a run.

    The dotted line is the accuracy after the head's round, where a run starts from. The bpp panel leaves that round
    out: it sends a head, not a mask.
    """
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    accuracy, bpp = figure.subplots(1, 2)
    labels = _labels(results)
    variants = results.runs.groupby("method").cumcount()
    looks = [style(*pair) for pair in zip(results.runs["method"], variants, strict=True)]
    for (run_id, label), look in zip(labels.items(), looks, strict=True):
        rounds = results.rounds[results.rounds["run_id"] == run_id]
        evaluated = rounds.dropna(subset=["accuracy"])
        accuracy.plot(evaluated["round"], evaluated["accuracy"], **look._asdict(), markersize=4, label=label)
        start = rounds.loc[rounds["round"] == 0, "accuracy"]
        if not start.empty:
            accuracy.axhline(start.iloc[0], color=look.color, linestyle=":", linewidth=1.2)
        trained = rounds[rounds["round"] > 0]
        bpp.plot(trained["round"], trained["uplink_bpp"], **look._asdict(), markersize=4, label=label)
    accuracy.set(title="Test accuracy (dotted: linear probe)", xlabel="round")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    bpp.set(title="Uplink, bits per masked parameter and client", xlabel="round")
    bpp.set_ylim(bottom=0)
    for axes in (accuracy, bpp):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        plain(axes)
    if 0 < len(labels) <= 12:
        as_written(accuracy.legend(frameon=False, fontsize="small").get_texts())
    return figure


def _labels(results: Results) -> dict[str, str]:
    """A label for each run: method and dataset, with the seed and, where still ambiguous, the run's name."""
    runs = results.runs
    for columns in (["method", "dataset"], ["method", "dataset", "seed"], ["run_id"]):
        labels = runs[columns].astype(str).agg(", ".join, axis=1)
        if labels.is_unique:
            break
    return dict(zip(runs["run_id"], labels, strict=True))
