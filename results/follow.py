"""Runs that go on, read again and again: what has not changed since is not read again."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace

import pandas as pd

from results import locations
from results.errors import DamagedError
from results.folders import fingerprints
from results.frames import Location, Results, load
from results.schema import ROUNDS, RUNS

_MANY = 20  # changed runs from which on whole folders are read: with their index and many threads
_TABLES = ("runs", "rounds")


class Follower:
    """The tables ``runs`` and ``rounds`` of all runs at some places, as they grow.

    Args:
        paths: as for :func:`results.load`; runs may appear there later.
    """

    def __init__(self, paths: Sequence[Location]) -> None:
        self._paths = [os.fspath(path) for path in paths]
        self._seen: dict[str, tuple[str, str | None]] = {}
        self._results = _empty()

    def read(self) -> Results:
        """The tables as they are now; the object of the call before where no file has changed.

        Raises:
            LocationError: a URI cannot be opened.
            OSError: an object store does not answer.
            ValueError: two folders hold the same run.
        """
        ended = self._results.runs.loc[self._results.runs["status"] != "running", "run_id"]
        found = {
            locations.join(path, name) if name else path: texts
            for path in self._paths
            for name, texts in fingerprints(path, set(ended)).items()
        }
        changed = [
            place
            for place, (run, rounds) in found.items()
            if place not in self._seen or run != self._seen[place][0] or rounds not in (None, self._seen[place][1])
        ]
        if not changed and len(found) == len(self._seen):
            return self._results
        now = self._load(changed[:_MANY])
        if len(changed) > _MANY or self._seen.keys() - found.keys() or self._results.damaged or now.damaged:
            now = self._load([path for path in dict.fromkeys(self._paths) if _has(path, found)])
        else:
            now = _merged(self._results, now)
        self._results = now
        self._seen = found
        return self._results

    @staticmethod
    def _load(paths: Sequence[str]) -> Results:
        try:
            return load(paths, tables=_TABLES) if paths else _empty()
        except DamagedError as error:  # of the only run
            return replace(_empty(), damaged=(str(error),))
        except FileNotFoundError:  # removed since it was listed
            return _empty()


def _has(path: str, places: Collection[str]) -> bool:
    start = path.partition("?")[0].rstrip("/") + "/"
    return path in places or any(place.startswith(start) for place in places)


def _empty() -> Results:
    runs, rounds = RUNS.empty_table().to_pandas(), ROUNDS.empty_table().to_pandas()
    return Results(runs, rounds, pd.DataFrame())


def _merged(before: Results, now: Results) -> Results:
    """The tables of ``before`` with the runs of ``now`` in place of theirs."""
    ids = set(now.runs["run_id"])
    frames = {}
    for name in _TABLES:
        old, new = getattr(before, name), getattr(now, name)
        parts = [part for part in (old[~old["run_id"].isin(ids)], new) if len(part)]
        frames[name] = pd.concat(parts, ignore_index=True) if parts else new
    written = {name: time for name, time in before.last_written.items() if name not in ids}
    return replace(before, **frames, last_written={**written, **now.last_written})
