"""The style of all figures: colours, markers, panels and the file format."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter

from results import formats
from results.groups import PROBLEM, labels

#: Okabe and Ito's colour-blind safe palette.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vP*X<>"
# A line after the first has its colours, with other lines and markers.
_METHODS = (
    *("deltamask", "fedpm", "fedavg", "fedmask", "eden", "drive", "linear-probe"),
    *("deltamask-plus", "lora", "qsgd", "deepreduce", "bitfit", "ffa-lora", "fed-sb"),
    *("klms", "fedex-lora", "fedkseed", "decomfl"),
)
_LINES: tuple[tuple[str, str], ...] = (("-", "full"), ("--", "none"), ("-.", "bottom"), (":", "left"))
_COLUMNS, _SHOWN_PANELS, _SHOWN_LABELS = 3, 24, 24


class Style(NamedTuple):
    """The look of a group of runs. The method sets colour, line and filling; its variants differ in their markers."""

    color: str
    linestyle: str
    fillstyle: str
    marker: str


def style(method: str, variant: int = 0) -> Style:
    """The same for the same method, in every figure and process.

    Args:
        method: its name; names that are not registered get colours by a hash of the name, and dotted lines.
        variant: number of a group among those of the method.
    """
    if method in _METHODS:
        family, colour = divmod(_METHODS.index(method), len(COLOURS))
    else:
        family, colour = len(_LINES) - 1, zlib.crc32(method.encode()) % len(COLOURS)
    return Style(COLOURS[colour], *_LINES[family], _MARKERS[variant % len(_MARKERS)])


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG at 150 dpi and return its path."""
    path = Path(path)
    path = path if path.suffix else path.with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def styles(frame: pd.DataFrame, names: pd.Series[str]) -> dict[str, Style]:
    """The style of each group name, by the column ``method`` of ``frame`` where it has one, else by the name itself.

    Args:
        frame: a row for each of ``names``, with the same index.
        names: names of groups.
    """
    pairs = pd.DataFrame({"name": names, "method": frame.get("method", names)}).drop_duplicates("name")
    variants = pairs.groupby("method").cumcount()
    return {
        name: style(method, variant)
        for name, method, variant in zip(pairs["name"], pairs["method"], variants, strict=True)
    }


def problems(frame: pd.DataFrame, keys: Sequence[str]) -> tuple[pd.Series[str], pd.Series[str]]:
    """The panel and the label of each row: what the problem is, and the group of runs there."""
    panel_keys = [name for name in PROBLEM if name in keys]
    titles = pd.Series(
        [", ".join(map(formats.setting, panel_keys, row)) for row in frame[panel_keys].astype(object).to_numpy()],
        frame.index,
        dtype=str,
    )
    return titles, labels(frame, [name for name in keys if name not in panel_keys])


def panels(titles: Sequence[str], height: float = 3.4) -> tuple[Figure, list[Axes]]:
    """A figure with a panel a title, up to 24; the last title says when there are more."""
    shown = list(titles[:_SHOWN_PANELS])
    columns = max(1, min(_COLUMNS, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    figure = Figure(figsize=(5.4 if columns == 1 else 4.1 * columns, height * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    if len(titles) > len(shown):
        shown[-1] += f" (and {len(titles) - len(shown)} more, not drawn)"
    for axes, title in zip(grid, shown, strict=False):
        axes.set_title(title, fontsize="medium", parse_math=False)
        plain(axes)
    return figure, grid[: len(shown)]


def plain(axes: Axes) -> None:
    """A light grid and no frame."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def bytes_axis(axes: Axes) -> None:
    """Bytes on the x axis with units, on a logarithmic scale where they differ much."""
    if wide(axes.dataLim.minposx, axes.dataLim.xmax):
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter("B"))


def wide(least: float, most: float) -> bool:
    """Whether positive values differ so much that they need a logarithmic scale."""
    return bool(0 < 20 * least < most)


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend beside all panels, each label once; none when there is one label, or more than can be read."""
    entries: dict[str, Any] = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if 1 < len(entries) <= _SHOWN_LABELS:
        drawn = figure.legend(
            entries.values(), entries.keys(), loc="outside right center", frameon=False, fontsize="small"
        )
        as_written(drawn.get_texts())


def as_written(texts: Sequence[Text]) -> None:
    """Show names of users' settings as they are, a ``$`` in them too, which else begins a formula."""
    for text in texts:
        text.set_parse_math(False)
