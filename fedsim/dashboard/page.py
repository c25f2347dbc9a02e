"""The page itself, a script of streamlit: ``streamlit run page.py -- PATH...``."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from html import escape

import pandas as pd
import streamlit as st

import results
from fedsim.dashboard import _charts
from results.figures import COLOURS
from results.follow import Follower
from results.groups import labels, with_keys
from results.searches import Search, searches

_RUNNING_SECONDS, _IDLE_SECONDS = 3, 20
_COMPARED = 7  # lines that can be told apart
_FILTERS = ("sweep", "status", "method", "dataset", "partition")
_SHOWN = (
    *("run_id", "status", "progress", "method", "dataset", "partition", "alpha", "seed", "accuracy", "best_accuracy"),
    *("uplink_bpp", "uplink_bytes", "downlink_bytes", "wall_seconds", "sweep", "started_at"),
)
# What is being read again does not fade: it would every few seconds.
_STYLE = """<style>
.block-container { padding-top: 2.5rem }
.key { display: inline-block; margin-right: 1.2em }
[data-stale="true"] { opacity: 1 !important; transition: none !important }
</style>"""
_LONG_NUMBER = re.compile(r"\d+\.\d{4,}")


def page(paths: Sequence[str]) -> None:
    """Show the runs at these paths, and again every few seconds while one of them is running."""
    st.set_page_config(page_title="fedsim dashboard", layout="wide")
    st.html(_STYLE)
    st.header("fedsim dashboard")
    st.caption(", ".join(paths))
    follower = _follower(tuple(paths))
    running = _is_running(_read(follower))

    @st.fragment(run_every=_RUNNING_SECONDS if running else _IDLE_SECONDS)
    def body() -> None:
        loaded = _read(follower)
        if loaded is not None:
            if _is_running(loaded) != running:
                st.rerun()  # with the other interval
            _show(loaded, paths)

    body()


@st.cache_resource(show_spinner=False)
def _follower(paths: tuple[str, ...]) -> Follower:
    return Follower(paths)


def _read(follower: Follower) -> results.Results | None:
    try:
        return follower.read()
    except (OSError, ValueError, results.LocationError) as error:  # the next reading may do
        st.error(f"cannot read: {error}")
        return None


def _is_running(loaded: results.Results | None) -> bool:
    return loaded is not None and bool((loaded.runs["status"] == "running").any())


def _show(loaded: results.Results, paths: Sequence[str]) -> None:
    for damage in loaded.damaged:
        st.warning(damage)
    if loaded.runs.empty:
        st.info(f"There are no runs yet. Start some: `fedsim run output={paths[0]}`, or `fedsim sweep SWEEP.yaml`.")
        return
    runs = _with_progress(loaded)
    _numbers(runs)
    chosen = _table(_filtered(runs))
    overview, tried, problems = st.tabs(["Rounds", "Searches", "Failures and warnings"])
    with overview:
        _rounds(loaded, chosen)
    with tried:
        _searches(searches(runs))
    with problems:
        _problems(runs, loaded)


def _with_progress(loaded: results.Results) -> pd.DataFrame:
    """The runs, newest first, with what is known of those that go on from their rounds."""
    rounds = loaded.rounds.groupby("run_id")
    runs = loaded.runs.set_index("run_id", drop=False)
    so_far = pd.DataFrame(
        {
            "done": rounds["round"].max(),
            "last": rounds["accuracy"].last(),
            "bytes_up": rounds["uplink_bytes"].sum(),
            "bytes_down": rounds["downlink_bytes"].sum(),
            "seconds": rounds["round_seconds"].sum(),
        }
    ).reindex(runs.index)
    return runs.assign(
        progress=so_far["done"] / runs["rounds"],
        accuracy=runs["final_accuracy"].fillna(so_far["last"]),
        uplink_bytes=runs["uplink_bytes"].astype(float).fillna(so_far["bytes_up"]),
        downlink_bytes=runs["downlink_bytes"].astype(float).fillna(so_far["bytes_down"]),
        wall_seconds=runs["wall_seconds"].fillna(so_far["seconds"]),
    ).sort_values("started_at", ascending=False)


def _numbers(runs: pd.DataFrame) -> None:
    counts = runs["status"].value_counts()
    best = runs["validation_accuracy"].max()
    sent = runs["uplink_bytes"].sum() + runs["downlink_bytes"].sum()
    shown = {
        "Runs": str(len(runs)),
        "Running": str(counts.get("running", 0)),
        "Finished": str(counts.get("finished", 0)),
        "Failed": str(counts.get("failed", 0)),
        "Best validation accuracy": "-" if best != best else f"{best:.1%}",
        "Sent, both directions": _bytes(sent),
    }
    for column, (name, value) in zip(st.columns(len(shown)), shown.items(), strict=True):
        column.metric(name, value, border=True)


def _filtered(runs: pd.DataFrame) -> pd.DataFrame:
    names = [name for name in _FILTERS if runs[name].nunique() > 1]
    search, *places = st.columns([2, *[1] * len(names)])
    text = search.text_input("Search", placeholder="any text of a run's name or configuration", key="text")
    if text:
        known = runs["run_id"] + runs["config"].fillna("")
        runs = runs[known.str.contains(text, regex=False)]
    for name, place in zip(names, places, strict=True):
        values = sorted(runs[name].dropna().unique())
        if wanted := place.multiselect(name.capitalize(), values, key=name, placeholder="all"):
            runs = runs[runs[name].isin(wanted)]
    return runs


def _table(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that are picked in the table, or its first ones."""
    shown = runs[[name for name in _SHOWN if runs[name].notna().any()]].reset_index(drop=True)
    for name in {"uplink_bytes", "downlink_bytes"} & set(shown):
        shown[name] = shown[name] / 2**20
    number = st.column_config.NumberColumn
    picked = st.dataframe(
        shown,
        key="runs",
        hide_index=True,
        height=min(38 + 35 * len(shown), 320),
        on_select="rerun",
        selection_mode="multi-row",
        column_config={
            "run_id": st.column_config.TextColumn("run", width="medium"),
            "progress": st.column_config.ProgressColumn("progress", format="percent", min_value=0, max_value=1),
            "accuracy": number("accuracy", format="%.3f"),
            "best_accuracy": number("best", format="%.3f"),
            "uplink_bpp": number("uplink bpp", format="%.4f"),
            "uplink_bytes": number("uplink MiB", format="%.2f"),
            "downlink_bytes": number("downlink MiB", format="%.2f"),
            "wall_seconds": number("seconds", format="%.1f"),
            "started_at": st.column_config.DatetimeColumn("started", format="YYYY-MM-DD HH:mm:ss"),
        },
    )
    rows = [row for row in picked["selection"]["rows"] if row < len(runs)]
    return runs.iloc[rows] if rows else runs.head(_COMPARED)


def _rounds(loaded: results.Results, chosen: pd.DataFrame) -> None:
    rounds = loaded.rounds[loaded.rounds["run_id"].isin(chosen["run_id"])]
    if rounds.empty:
        st.info("No round has ended yet.")
        return
    names = _names(chosen)
    rounds = rounds.assign(label=rounds["run_id"].map(names))
    both = rounds.groupby("run_id")[["uplink_bytes", "downlink_bytes"]].cumsum()
    rounds = rounds.assign(uplink_bytes=both["uplink_bytes"], downlink_bytes=both["downlink_bytes"])
    legend = "".join(
        f"<span class='key'><span style='color:{COLOURS[index % len(COLOURS)]}'>●</span> {escape(name)}</span>"
        for index, name in enumerate(dict.fromkeys(rounds["label"]))
    )
    st.html(legend)
    trained = rounds[rounds["round"] > 0]  # the head's round sends a head, not a mask
    charts = [
        _charts.over_rounds(rounds, "accuracy", "Test accuracy", form=".0%"),
        _charts.over_rounds(trained, "uplink_bpp", "Uplink, bits per parameter and client"),
        _charts.over_rounds(trained, "downlink_bpp", "Downlink, bits per parameter and client"),
        _charts.over_rounds(rounds, "uplink_bytes", "Uplink so far, bytes", form="~s"),
        _charts.over_rounds(rounds, "downlink_bytes", "Downlink so far, bytes", form="~s"),
        _charts.over_rounds(rounds, "round_seconds", "Seconds of a round"),
    ]
    for start in (0, 3):
        for column, chart in zip(st.columns(3), charts[start : start + 3], strict=True):
            column.altair_chart(chart)
    if len(chosen) == _COMPARED:
        st.caption(f"The first {_COMPARED} runs of the table; pick others there.")


def _names(runs: pd.DataFrame) -> pd.Series[str]:
    """A short name for each run: what sets it apart from the others, its seed if that is needed."""
    known, keys = with_keys(runs)
    names = labels(known, keys).map(lambda name: _LONG_NUMBER.sub(lambda found: f"{float(found[0]):.3g}", name))
    if not names.is_unique:
        names = names + ", seed " + runs["seed"].astype(str)
    return names.where(~names.duplicated(keep=False), runs["run_id"])


def _searches(found: Sequence[Search]) -> None:
    if not found:
        st.info("No run here belongs to a search.")
        return
    search = found[0]
    if len(found) > 1:
        search = found[st.selectbox("Search", range(len(found)), format_func=lambda index: found[index].title)]
    st.subheader(search.title)
    left, right = st.columns(2)
    for objective in search.objectives:
        left.altair_chart(_charts.trials(search, objective))
    if len(search.importances()):
        right.altair_chart(_charts.importances(search))
    st.dataframe(search.ranked(), hide_index=True)


def _problems(runs: pd.DataFrame, loaded: results.Results) -> None:
    failed = runs.loc[runs["error"].notna(), ["run_id", "status", "error"]]
    warned = runs.loc[runs["warnings"].notna(), ["run_id", "warnings"]]
    for row in failed.itertuples():
        st.error(f"**{row.run_id}** ({row.status})")
        st.code(row.error, language=None, wrap_lines=True)
    for row in warned.itertuples():
        st.warning(f"**{row.run_id}**: {row.warnings}")
    if failed.empty and warned.empty:
        st.success("No run has failed or warns of anything.")
    now = datetime.now(timezone.utc)
    for run_id, written in loaded.last_written.items():
        minutes = (now - written).total_seconds() / 60
        if minutes > 5:
            st.warning(f"**{run_id}** is said to run, but has written nothing for {minutes:.0f} minutes.")


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1024
    return f"{count:.3g} TiB"


if __name__ == "__main__":
    page(sys.argv[1:])
