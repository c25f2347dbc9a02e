"""Charts of the dashboard: a line a run over rounds, and the trials of a search."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from results.figures.style import COLOURS, wide
from results.searches import Search

_HEIGHT = 260


def over_rounds(rounds: pd.DataFrame, column: str, title: str, *, form: str = "~g") -> alt.Chart:
    """A column of the rounds table over rounds, coloured by ``label``; rounds that lack it are passed over."""
    labels = list(dict.fromkeys(rounds["label"]))
    shown = rounds.loc[rounds[column].notna(), ["round", column, "label"]]
    return (
        alt.Chart(shown)
        .mark_line(point=alt.OverlayMarkDef(size=18))
        .encode(
            x=alt.X("round:Q", title="round", axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y(f"{column}:Q", title=None, scale=_scale(shown[column]), axis=alt.Axis(format=form, tickCount=5)),
            color=alt.Color("label:N", sort=labels, legend=None, scale=alt.Scale(domain=labels, range=_range(labels))),
            tooltip=["label", "round", alt.Tooltip(f"{column}:Q", format=form)],
        )
        .properties(title=title, height=_HEIGHT)
    )


def trials(search: Search, column: str) -> alt.Chart:
    """An objective of a search over its trials in the order of the runs table."""
    shown = search.outcomes.assign(trial=range(1, len(search.trials) + 1), run_id=search.trials["run_id"])
    form = ".1%" if "accuracy" in column else ".4~s"
    values = search.values.map(str).rename(columns=_plain)
    return (
        alt.Chart(pd.concat([shown, values], axis=1).dropna(subset=[column]))
        .mark_circle(size=70, color=COLOURS[0])
        .encode(
            x=alt.X("trial:Q", axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y(f"{column}:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(format=form)),
            tooltip=["run_id", column, *values.columns],
        )
        .properties(title=f"{column.replace('_', ' ')} over trials", height=_HEIGHT)
    )


def importances(search: Search) -> alt.Chart:
    """Importance of each searched key, a bar a key and objective."""
    table = search.importances().melt("key", var_name="objective", value_name="importance")
    table["objective"] = table["objective"].str.replace("_", " ")
    names = list(dict.fromkeys(table["objective"]))
    return (
        alt.Chart(table)
        .mark_bar()
        .encode(
            x=alt.X("importance:Q", title=None, axis=alt.Axis(format="%")),
            y=alt.Y("key:N", title=None, sort=list(dict.fromkeys(table["key"]))),
            color=alt.Color(
                "objective:N",
                title=None,
                legend=alt.Legend(orient="bottom"),
                scale=alt.Scale(domain=names, range=_range(names)),
            ),
            yOffset=alt.YOffset("objective:N", sort=names),
        )
        .properties(title="importance of searched keys", height=_HEIGHT)
    )


def _range(labels: list[str]) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(len(labels))]


def _scale(values: pd.Series[Any]) -> alt.Scale:
    return alt.Scale(type="log") if wide(values.min(), values.max()) else alt.Scale(zero=False)


def _plain(name: str) -> str:
    return name.replace(".", " ")  # a dot in a field means a path to Vega
