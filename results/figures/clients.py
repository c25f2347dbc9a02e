"""Figures of clients: what they hold and what they send."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from results.figures.style import COLOURS, as_written, bytes_axis, plain, styles
from results.frames import Results
from results.groups import finished, labels, with_keys

_SHOWN_CLIENTS, _NAMED_CLASSES, _SHOWN_GROUPS = 1000, 30, 40
_QUANTILES = {"whislo": 0.05, "q1": 0.25, "med": 0.5, "q3": 0.75, "whishi": 0.95}


def client_distributions(results: Results, *, by: Sequence[str] | None = None) -> Figure:
    """Bytes of an upload and samples of a client, a box a group: the middle half, the median, whiskers at 5 and 95 %.

    Uploads of the head's round are left out; clients count once a run.

    Args:
        results: tables with runs and clients; runs that are not finished are left out. The first 40 groups are drawn.
        by: group keys, columns or keys of the configuration; what varies when None.
    """
    runs, keys = with_keys(finished(results.runs), by)
    names = labels(runs, keys)
    shown = list(names.unique()[:_SHOWN_GROUPS])
    clients = results.clients.assign(name=results.clients["run_id"].map(dict(zip(runs["run_id"], names, strict=True))))
    clients = clients[clients["name"].isin(shown)]
    figure = Figure(figsize=(9.0, 1.6 + 0.3 * len(shown)), layout="constrained")
    payloads, samples = figure.subplots(1, 2, sharey=True)
    looks = styles(runs, names)
    colours = [looks[name].color for name in shown]
    _boxes(payloads, clients[clients["round"] > 0], "payload_bytes", shown, colours)
    _boxes(samples, clients.drop_duplicates(["run_id", "client"]), "samples", shown, colours)
    payloads.set(xlabel="upload", title="Upload of a client and round")
    bytes_axis(payloads)
    samples.set(xlabel="training samples", title="Samples of a client")
    payloads.set_yticks(range(1, len(shown) + 1), shown)
    as_written(payloads.get_yticklabels())
    payloads.set_ylim(len(shown) + 0.6, 0.4)
    return figure


def _boxes(axes: Axes, rows: pd.DataFrame, column: str, names: Sequence[str], colours: Sequence[str]) -> None:
    """Boxes from quantiles: the rows may be millions."""
    values = rows.groupby("name")[column]
    quantiles = pd.DataFrame({key: values.quantile(share) for key, share in _QUANTILES.items()})
    stats = [
        {"label": name} | {key: quantiles[key].get(name, np.nan) for key in _QUANTILES}  # none: no clients were read
        for name in names
    ]
    drawn = axes.bxp(
        stats, orientation="horizontal", showfliers=False, patch_artist=True, widths=0.6, manage_ticks=False
    )
    for box, median, colour in zip(drawn["boxes"], drawn["medians"], colours, strict=True):
        box.set(facecolor=colour, alpha=0.5)
        median.set(color="black", linewidth=1.5)
    plain(axes)


def label_counts(counts: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """Draw which labels each client has, and above it how many samples.

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
