"""Searches of sweeps: ranked trials, the front of several objectives, and how much each searched key matters."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from results import formats

if TYPE_CHECKING:
    import optuna

#: What a search was after that does not say so: the default of sweeps.
_OBJECTIVES = {"validation_accuracy": "max"}
_FEW = 4  # trials below which importances say nothing


@dataclass(frozen=True)
class Search:
    """The trials of a search at one point of a sweep's grid.

    Attributes:
        sweep: name of the sweep, empty where it is not known.
        point: values of the grid.
        objectives: columns of the runs table, each ``"max"`` or ``"min"``.
        space: how each key was searched, such as ``{"loguniform": [0.01, 0.3]}``; empty where it is not known.
        trials: rows of the runs table.
    """

    sweep: str
    point: Mapping[str, Any]
    objectives: Mapping[str, str]
    space: Mapping[str, Mapping[str, Any]]
    trials: pd.DataFrame

    @property
    def title(self) -> str:
        """The sweep and the point, in a line."""
        point = ", ".join(formats.setting(key, value) for key, value in self.point.items())
        return f"{self.sweep or 'search'}: {point}" if point else self.sweep or "search"

    @cached_property
    def values(self) -> pd.DataFrame:
        """A column for each searched key, a row a trial; missing where a condition left the key out."""
        return pd.DataFrame([json.loads(trial) for trial in self.trials["trial"]], index=self.trials.index)

    def ranked(self) -> pd.DataFrame:
        """A row a trial with what it tried and what came out, the best first.

        Of several objectives, the trials of the front come first (column ``front``: no other is better in one
        objective and as good in all), then all by the first objective. Trials without values are last.
        """
        columns = list(self.objectives)
        shown = [name for name in ("run_id", "status") if name in self.trials]
        table = pd.concat([self.trials[shown], self.values.map(_text), self.trials[columns]], axis=1)
        signs = [1 if mode == "min" else -1 for mode in self.objectives.values()]
        order = [sign * self.outcomes[name].to_numpy() for sign, name in zip(signs, columns, strict=True)]
        front = np.zeros(len(table), bool)
        if len(columns) > 1:
            front[self._numbers([trial.number for trial in self._study.best_trials])] = True
            table["front"] = np.where(front, "yes", "")
        failed = ~self.complete
        positions = np.lexsort((*reversed(order), ~front, failed))
        table = table.iloc[positions]
        table.insert(0, "rank", np.arange(1, len(table) + 1))
        return table.reset_index(drop=True)

    def importances(self) -> pd.DataFrame:
        """Importance of each searched key for being among the best trials: PED-ANOVA (Watanabe et al., 2023).

        Columns: ``key``, and for each objective its importances, which sum to 1; no rows where less than 4 trials have
        values. Versions of Optuna before 5 leave keys out that some trial does not have.
        """
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # slow to import

        columns = ["key", *self.objectives]
        if self.complete.sum() < _FEW:
            return pd.DataFrame(columns=columns)
        found: dict[str, dict[str, float]] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is experimental, and that low values are taken for the best
            for position, (name, mode) in enumerate(self.objectives.items()):
                sign = 1 if mode == "min" else -1
                found[name] = get_param_importances(
                    self._study,
                    evaluator=PedAnovaImportanceEvaluator(),
                    target=lambda trial, sign=sign, position=position: sign * trial.values[position],  # type: ignore[misc]
                )
        table = pd.DataFrame(found).rename_axis("key").reset_index()[columns]
        return table.sort_values(columns[1], ascending=False, ignore_index=True)

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """The objectives of each trial as numbers; missing where it has not finished."""
        numbers = self.trials[list(self.objectives)].apply(pd.to_numeric, errors="coerce").astype(float)
        return numbers.where(self.trials["status"] == "finished")

    @cached_property
    def complete(self) -> np.ndarray:
        """Whether each trial finished and has all values, bool."""
        return self.outcomes.notna().all(axis=1).to_numpy()

    @cached_property
    def _study(self) -> optuna.Study:
        """The complete trials as a study of Optuna."""
        import optuna  # slow to import

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        modes = {"max": optuna.study.StudyDirection.MAXIMIZE, "min": optuna.study.StudyDirection.MINIMIZE}
        study = optuna.create_study(directions=[modes[mode] for mode in self.objectives.values()])
        keys = list(map(str, self.values))
        kinds = {key: _Distribution(self.space.get(key, {}), self.values[key].dropna()) for key in keys}
        for number in self._numbers(slice(None)):
            values = {key: self.values[key].iloc[number] for key in kinds}
            params = {key: kinds[key].position(value) for key, value in values.items() if not _is_missing(value)}
            distributions = {key: kinds[key].of_optuna for key in params}
            outcome = self.outcomes.iloc[number].tolist()
            study.add_trial(optuna.create_trial(params=params, distributions=distributions, values=outcome))
        return study

    def _numbers(self, of_study: Any) -> np.ndarray:
        """Positions in ``trials`` of trials of the study."""
        return np.flatnonzero(self.complete)[of_study]


def searches(runs: pd.DataFrame) -> list[Search]:
    """The searches that the runs tell of, in their order; other runs are left out.

    Args:
        runs: rows of the runs table; those of versions without the columns ``sweep`` and ``search`` are one search,
            towards ``validation_accuracy``.
    """
    tried = runs[runs["trial"].notna()] if "trial" in runs else runs.iloc[:0]
    found: dict[tuple[str, str], list[int]] = {}
    described: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for position in range(len(tried)):
        row = tried.iloc[position]
        sweep, text = (row[name] if name in tried and not _is_missing(row[name]) else "" for name in _OF_SWEEP)
        search = json.loads(text) if text else {}
        key = sweep, json.dumps([search.get("point"), search.get("objectives")])
        found.setdefault(key, []).append(position)
        described.setdefault(key, []).append(search)
    return [
        Search(
            key[0],
            described[key][0].get("point", {}),
            described[key][0].get("objectives", _OBJECTIVES),
            {name: kind for one in described[key] for name, kind in one.get("space", {}).items()},
            tried.iloc[positions],
        )
        for key, positions in found.items()
    ]


_OF_SWEEP = ("sweep", "search")


class _Distribution:
    """The distribution of a searched key, as Optuna knows it; choices by their position, as they may be of any type."""

    def __init__(self, kind: Mapping[str, Any], values: pd.Series[Any]) -> None:
        from optuna import distributions

        self._choices: list[str] | None = None
        self.of_optuna: distributions.BaseDistribution
        [(name, bounds)] = kind.items() or [("", list(values))]
        if name in ("uniform", "loguniform"):
            self.of_optuna = distributions.FloatDistribution(bounds[0], bounds[1], log=name == "loguniform")
        elif name == "int":
            self.of_optuna = distributions.IntDistribution(bounds[0], bounds[1])
        elif name != "choice" and formats.is_number(values):
            self.of_optuna = distributions.FloatDistribution(float(values.min()), float(values.max()))
        else:
            self._choices = list(dict.fromkeys(map(json.dumps, bounds)))
            self.of_optuna = distributions.CategoricalDistribution(range(len(self._choices)))

    def position(self, value: Any) -> Any:
        return value if self._choices is None else self._choices.index(json.dumps(value))


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def _text(value: Any) -> str:
    return "" if _is_missing(value) else formats.cell("", value) if isinstance(value, float) else str(value)
