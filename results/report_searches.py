"""The part of a report about searches: ranked trials, what mattered, and how objectives depend on it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from results import figures, page
from results.searches import Search

_DRAWN = 12  # searches; a large grid has one at each of its points


def search_blocks(searches: Sequence[Search]) -> list[page.Text | page.Table | page.Picture | page.Fold]:
    """The trials of each search, from the best one, with importances and figures: of several searches each in a fold.

    The page draws the first 12 searches; of others it has the tables.
    """
    blocks: list[page.Text | page.Table | page.Picture | page.Fold] = [
        page.Text("Trials of searches are not in the tables above, unless there are no other runs.")
    ]
    if len(searches) == 1:
        return [*blocks, *_blocks(searches[0], drawn=True)]
    blocks.append(page.Table(_overview(searches), "The best trial of each search, or the first of its front"))
    folds = [page.Fold(one.title, _blocks(one, drawn=index < _DRAWN)) for index, one in enumerate(searches)]
    return [*blocks, *folds]


def _overview(searches: Sequence[Search]) -> pd.DataFrame:
    rows = []
    for search in searches:
        best = search.ranked().iloc[0]
        rows.append({"search": search.title, "trials": len(search.trials), **best.drop(["rank", "status"]).to_dict()})
    return pd.DataFrame(rows)


def _blocks(search: Search, *, drawn: bool) -> list[page.Table | page.Picture | page.Text]:
    towards = ", ".join(f"{name.replace('_', ' ')} ({mode})" for name, mode in search.objectives.items())
    blocks: list[page.Table | page.Picture | page.Text] = [
        page.Table(search.ranked(), f"Trials of {search.title}, by {towards}")
    ]
    importances = search.importances()
    if len(importances):
        caption = "Importance of each searched key for being among the best trials (PED-ANOVA)"
        shares = importances.set_index("key").map("{:.1%}".format).reset_index()
        blocks.append(page.Table(shares, caption))
    objective = next(iter(search.objectives)).replace("_", " ")
    if drawn and search.complete.any():
        blocks.append(page.drawn(figures.slices(search), f"{objective.capitalize()} against each searched key"))
        if len(search.objectives) > 1:
            blocks.append(page.drawn(figures.front(search), "Trials by two objectives, and the front"))
    return blocks
