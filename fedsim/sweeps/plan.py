"""The plan of a sweep: every point of the grid, and at each a search by Optuna. Knows neither Ray nor files."""

from __future__ import annotations

import copy
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from fedsim.config import Config, load_config, registries
from fedsim.errors import ConfigError
from fedsim.settings import Settings, TrainSettings, assign
from fedsim.sweeps.config import SweepConfig
from fedsim.sweeps.dimension import Dimension
from fedsim.sweeps.study import Batch, Study, suggest_value

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

_POINTS = 100_000  # of a grid; each is validated before the first run
_MISSING = object()


@dataclass(frozen=True)
class Job:
    """A run to do.

    Attributes:
        config: its configuration.
        values: what it has of the sweep's keys.
        tried: those of them that a search chose; empty where none is at work, or to confirm what it found.
        columns: what the runs table says of the sweep: ``sweep``, ``trial`` and ``search``.
    """

    config: Config
    values: dict[str, Any]
    tried: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, str | None] = field(default_factory=dict)


class Plan:
    """The jobs of a sweep, in an order that does not depend on how long they take.

    :meth:`next` gives jobs until none is ready; :meth:`tell` takes results. As a search suggests by batches, and learns
    the results of a batch in the order of its suggestions, the same sweep always has the same jobs.

    Args:
        sweep: the sweep.
        storage: where to copy the searches to, see :mod:`fedsim.sweeps.storage`.

    Raises:
        ConfigError: a point of the grid is no valid configuration.
    """

    def __init__(self, sweep: SweepConfig, storage: BaseStorage | None = None) -> None:
        self._sweep = sweep
        grid = {key: dimension for key, dimension in sweep.space.items() if dimension.grid is not None}
        self._searched = {key: dimension for key, dimension in sweep.space.items() if dimension.grid is None}
        self._unmet = {key for dimension in sweep.space.values() for key in dimension.when}  # never found so far
        points = list(islice(self._expand({}, list(grid.items())), _POINTS + 1))
        if len(points) > _POINTS:
            sizes = " x ".join(str(len(dimension.grid or ())) for dimension in grid.values())
            raise ConfigError(f"space: found a grid of {sizes} points, allowed: at most {_POINTS:,}")
        self._trials = sweep.search.trials if self._searched else 1
        self._confirm = sweep.search.confirm if self._searched else []
        self._studies: list[Study] = []
        self._points = points
        self._asked = [0] * len(points)
        self._batches: dict[int, Batch] = {}
        self._ready: deque[tuple[int, int, Job]] = deque()
        self._owners: dict[str, list[tuple[int, int]]] = {}  # who waits for a run, by its run_id
        self._done = 0
        # Here, not in the middle of the sweep, a user wants to hear of what is wrong.
        configs = [self._config(point | dict(self._lowest(point))) for point in points]
        if unknown := [key for key in sorted(self._unmet) if not _is_key(key)]:
            raise ConfigError(f"space: found a condition (when) on {unknown[0]}, allowed: a key that some run has")
        _check_validation(sweep, configs)
        outputs = [config.output for config in configs]
        #: The ``log`` group of all runs.
        self.log = configs[0].log
        #: Folder of all runs, absolute where it is local.
        self.output = outputs[0] if "://" in outputs[0] else os.path.abspath(outputs[0])
        self.py_modules = configs[0].cluster.py_modules  # all runs have the base's
        if self._searched:
            self._studies = [Study(sweep, index, point, storage) for index, point in enumerate(points)]
        for index in range(len(points)):
            self._suggest(index)

    @property
    def total(self) -> int:
        """Number of jobs; a configuration that is suggested twice counts twice and runs once."""
        return len(self._points) * (self._trials + len(self._confirm))

    @property
    def done(self) -> bool:
        """Whether all results are known."""
        return self._done == self.total

    def next(self) -> Job | None:
        """A job that is not yet given out, or None: there may be more when results come, unless :attr:`done`."""
        while self._ready:
            point, position, job = self._ready.popleft()
            waiting = self._owners.setdefault(job.config.run_id, [])
            waiting.append((point, position))
            if len(waiting) == 1:
                return job
        return None

    def tell(self, job: Job, row: Mapping[str, Any] | None) -> None:
        """Learn a job's row of the runs table; None when it failed."""
        for point, position in self._owners.pop(job.config.run_id):
            self._done += 1
            if not self._studies:
                continue
            batch = self._batches[point]
            if position >= len(batch.trials):  # it confirms what was found
                continue
            batch.results[position] = row
            if len(batch.results) == len(batch.trials):
                self._studies[point].learn(batch)
                if self._asked[point] < self._trials:
                    self._suggest(point)
                elif self._confirm:
                    self._add_confirmations(point)

    def _suggest(self, point: int) -> None:
        count = min(self._sweep.search.batch, self._trials - self._asked[point])
        self._asked[point] += count
        batch = Batch([])
        for position in range(count):
            values = dict(self._points[point])
            if self._studies:
                trial = self._studies[point].ask()
                batch.trials.append(trial)
                for key, dimension in self._searched.items():
                    if self._applies(dimension, values):
                        values[key] = suggest_value(trial, key, dimension)
                self._studies[point].suggested(trial, values)
            self._ready.append((point, position, self._job(point, values, searched=True)))
        self._batches[point] = batch

    def _add_confirmations(self, point: int) -> None:
        best = self._studies[point].best()
        if best is None:  # every run failed
            self._done += len(self._confirm)
            return
        for offset, seed in enumerate(self._confirm):
            job = self._job(point, {**best, "seed": seed}, searched=False)
            self._ready.append((point, len(self._batches[point].trials) + offset, job))

    def _job(self, point: int, values: dict[str, Any], *, searched: bool) -> Job:
        tried = {key: value for key, value in values.items() if key in self._searched and searched}
        columns: dict[str, str | None] = {"sweep": self._sweep.name, "trial": None, "search": None}
        if tried:
            search = {
                "objectives": self._sweep.search.objectives,
                "point": self._points[point],
                "space": {key: self._searched[key].searched() for key in tried},
            }
            columns |= {"trial": json.dumps(tried, default=str), "search": json.dumps(search, default=str)}
        return Job(self._config(values), values, tried, columns)

    def _expand(self, values: dict[str, Any], grid: list[tuple[str, Dimension]]) -> Iterator[dict[str, Any]]:
        if not grid:
            yield values
            return
        (key, dimension), *others = grid
        if not self._applies(dimension, values):
            yield from self._expand(values, others)
            return
        for value in dimension.grid or []:
            yield from self._expand({**values, key: value}, others)

    def _lowest(self, point: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        values = dict(point)
        for key, dimension in self._searched.items():
            if self._applies(dimension, values):
                values[key] = dimension.values()[0]
                yield key, values[key]

    def _applies(self, dimension: Dimension, values: dict[str, Any]) -> bool:
        for key, wanted in dimension.when.items():
            try:
                found = values[key] if key in values else _look_up(self._tree(values), key)
                if found is not _MISSING:
                    self._unmet.discard(key)
            except ConfigError as error:
                raise ConfigError(f"space, for a condition on {key}, by the keys above it: {error}") from None
            if found not in (wanted if isinstance(wanted, list) else [wanted]):
                return False
        return True

    def _tree(self, values: Mapping[str, Any]) -> dict[str, Any]:
        tree = copy.deepcopy(self._sweep.base)
        for key, value in values.items():
            assign(tree, key, copy.deepcopy(value))
        return tree

    def _config(self, values: Mapping[str, Any]) -> Config:
        try:
            return load_config(self._tree(values))
        except ConfigError as error:
            place = ", ".join(f"{key}={value}" for key, value in values.items())
            raise ConfigError(f"space, at {place or 'its base'}: {error}") from None


def _check_validation(sweep: SweepConfig, configs: Iterable[Config]) -> None:
    """Refuse to tune by validation samples that are not there."""
    used: list[tuple[str, str]] = []
    if any(dimension.grid is None for dimension in sweep.space.values()):
        used += [("search.objectives", name) for name in sweep.search.objectives]
    if sweep.early_stopping is not None:
        used.append(("early_stopping.column", sweep.early_stopping.column))
    for key, name in used:
        if name.startswith("validation") and any(not config.data.validation for config in configs):
            raise ConfigError(f"{key}: found {name!r}, allowed: others, as data.validation is 0 in a run")


def _look_up(tree: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key that a configuration of this tree has; ``_MISSING`` where it has no such key."""
    found: Any = load_config(tree).model_dump()
    for part in key.split("."):
        found = found.get(part, _MISSING) if isinstance(found, Mapping) else _MISSING
    return found


def _is_key(key: str) -> bool:
    """Whether some run may have a dotted key: all runs, or those with some registered member."""
    group, _, rest = key.partition(".")
    if not rest or group not in Config.model_fields:
        return group in Config.model_fields
    members = [member for name, registry in registries().items() if name == group for member in registry]
    settings: list[Any] = [member.Params for member in members] or [
        TrainSettings if group == "train" else Config.model_fields[group].annotation
    ]
    return any(rest.partition(".")[0] in one.model_fields for one in settings if issubclass(one, Settings))
