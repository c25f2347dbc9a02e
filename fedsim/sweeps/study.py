"""The search of a sweep at one point of its grid, by Optuna."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.storages import BaseStorage

from deltamask import stream_key
from fedsim.sweeps.config import SweepConfig
from fedsim.sweeps.dimension import Dimension
from fedsim.sweeps.storage import Copy, study_name

optuna.logging.set_verbosity(optuna.logging.WARNING)

#: Where a trial keeps, beside Optuna's parameters, what it has of the sweep's keys.
VALUES = "values"
_DIRECTIONS = {"max": optuna.study.StudyDirection.MAXIMIZE, "min": optuna.study.StudyDirection.MINIMIZE}


@dataclass
class Batch:
    """Suggestions whose results the study learns together, in their order, whatever finishes first."""

    trials: list[optuna.Trial]
    results: dict[int, Mapping[str, Any] | None] = field(default_factory=dict)


class Study:
    """Optuna's search at one point of the grid."""

    def __init__(
        self, sweep: SweepConfig, index: int, point: Mapping[str, Any], storage: BaseStorage | None = None
    ) -> None:
        search = sweep.search
        seed = stream_key(search.seed, "search", index) % 2**32
        samplers: dict[str, Any] = {
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=False),
            "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed, population_size=max(2, search.batch)),
            "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        }
        directions = [_DIRECTIONS[mode] for mode in search.objectives.values()]
        self._columns = list(search.objectives)
        self._study = optuna.create_study(sampler=samplers[search.sampler](), directions=directions)
        self._copy = None
        if storage is not None:
            self._copy = Copy(storage, study_name(sweep.name, point), directions, self._columns)

    def ask(self) -> optuna.Trial:
        return self._study.ask()

    def suggested(self, trial: optuna.Trial, values: dict[str, Any]) -> None:
        """All that a trial tries is known, and with it what it has of the sweep's keys."""
        trial.set_user_attr(VALUES, values)
        if self._copy is not None:
            self._copy.begin(self._study.trials[trial.number])

    def best(self) -> dict[str, Any] | None:
        """Values of the best trial, the first of several; None where all failed."""
        done = [trial for trial in self._study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
        if not done:
            return None
        values: dict[str, Any] = self._study.best_trial.user_attrs[VALUES]
        return values

    def learn(self, batch: Batch) -> None:
        for position, trial in enumerate(batch.trials):
            row = batch.results[position]
            values = [row[column] for column in self._columns] if row else []
            if row and all(value is not None for value in values):
                told = self._study.tell(trial, values)
            else:
                told = self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            if self._copy is not None:
                self._copy.end(told)


def suggest_value(trial: optuna.Trial, key: str, dimension: Dimension) -> Any:
    if dimension.choice is not None:
        # By position: Optuna takes only scalars as choices.
        return dimension.choice[trial.suggest_categorical(key, list(range(len(dimension.choice))))]
    if dimension.integer is not None:
        return trial.suggest_int(key, *dimension.integer)
    if dimension.loguniform is not None:
        return trial.suggest_float(key, *dimension.loguniform, log=True)
    assert dimension.uniform is not None
    return trial.suggest_float(key, *dimension.uniform)
