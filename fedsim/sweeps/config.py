"""A sweep as typed, validated data: a base configuration and the space around it."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

import results
from fedsim.config import NO_RESULT
from fedsim.errors import ConfigError
from fedsim.settings import (
    MOVED,
    DataSettings,
    ModelSettings,
    Settings,
    apply_override,
    assign,
    check_keys,
    check_size,
    explain_errors,
    read_yaml,
)
from fedsim.sweeps.dimension import Dimension

#: How the places of a search's storage begin.
STORAGES = ("sqlite:///", "journal:")


class SearchConfig(Settings):
    """The search by Optuna over keys that are not grids, at each point of the grid."""

    trials: int = Field(20, ge=1, le=1_000_000, description="runs at each point of the grid")
    batch: int = Field(
        4, ge=1, le=10_000, description="runs suggested at once from all before; so results do not depend on timing"
    )
    sampler: Literal["tpe", "nsga2", "random"] = Field(
        "tpe", description="tree-structured Parzen estimator, NSGA-II for several objectives, or random"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the sampler")
    objectives: dict[str, Literal["max", "min"]] = Field(
        {"validation_accuracy": "max"}, description="columns of the runs table, to rise or to fall"
    )
    confirm: list[int] = Field(
        default_factory=list,
        description="seeds to run the best of each search with, when it is over",
    )

    storage: str | None = Field(
        None, description="a copy of the search for optuna-dashboard: sqlite:///PATH or journal:PATH"
    )

    @field_validator("storage")
    @classmethod
    def _known_storage(cls, value: str | None) -> str | None:
        if value is not None and not any(value.startswith(kind) and value != kind for kind in STORAGES):
            raise ValueError(f"found {value!r}, allowed: sqlite:///PATH or journal:PATH")
        return value

    @model_validator(mode="after")
    def _one_best(self) -> SearchConfig:
        if self.confirm and len(self.objectives) > 1:
            raise ValueError(
                f"confirm: found {self.confirm}, allowed: none, as of several objectives no run is the best"
            )
        return self

    @field_validator("objectives")
    @classmethod
    def _known_columns(cls, value: dict[str, str]) -> dict[str, str]:
        if not value:
            raise ValueError("found none, allowed: at least one column")
        return _known(value, results.schema.RUNS.names)


class EarlyStopping(Settings):
    """Asynchronous successive halving (ASHA): runs that do not keep up are stopped. Which ones depends on timing."""

    column: str = Field("validation_accuracy", description="column of the rounds table")
    mode: Literal["max", "min"] = Field("max", description="whether more or less is better")
    grace_rounds: int = Field(5, ge=1, le=1_000_000, description="rounds that every run gets")
    reduction_factor: float = Field(3.0, gt=1, le=100, description="of so many runs, one goes on at each rung")

    @field_validator("column")
    @classmethod
    def _known_column(cls, value: str) -> str:
        _known({value: ""}, results.schema.ROUNDS.names)
        return value


def _known(columns: dict[str, str], allowed: list[str]) -> dict[str, str]:
    for column in columns:
        if column not in allowed:
            raise ValueError(f"found {column!r}, allowed: one of {', '.join(allowed)}")
    return columns


class SweepConfig(Settings):
    """A whole sweep."""

    name: str = Field(
        "sweep",
        min_length=1,
        description="column sweep of its runs; the name of its file, without ending, if not given",
    )
    base: dict[str, Any] = Field(default_factory=dict, description="the configuration of all runs")
    space: dict[str, Dimension] = Field(default_factory=dict, description="dotted keys and their values")
    search: SearchConfig = Field(default_factory=SearchConfig)
    early_stopping: EarlyStopping | None = Field(None, description="stop runs that do not keep up")
    concurrent: int | None = Field(None, ge=1, le=1_000_000, description="runs at once; as many as fit if not given")
    retries: int = Field(2, ge=0, le=100, description="times a failed run is started again before it counts as failed")

    @field_validator("space")
    @classmethod
    def _conditions_come_first(cls, space: dict[str, Dimension]) -> dict[str, Dimension]:
        before: dict[str, Dimension] = {}
        for key, dimension in space.items():
            if key.split(".")[0] in NO_RESULT:
                raise ValueError(f"{key}: found a key that does not change results, allowed: any other")
            for other in dimension.when:
                if other in MOVED:
                    raise ValueError(f"{key}.when.{other}: moved to {MOVED[other]}")
                if other in space and other not in before:
                    raise ValueError(f"{key}.when: found {other!r}, allowed: a key above it")
                if dimension.grid is not None and other in before and before[other].grid is None:
                    raise ValueError(f"{key}.when: found the searched {other!r}, allowed: no searched key for a grid")
            before[key] = dimension
        return space


def _check_keys(sweep: SweepConfig) -> None:
    """Answer unknown keys at once, in the words that the plan has for a point of the grid."""
    first = {key: dimension.values()[0] for key, dimension in sweep.space.items() if not dimension.when}
    tree = copy.deepcopy(sweep.base)
    for key, value in first.items():
        assign(tree, key, value)
    try:
        check_keys(tree)
    except ConfigError as error:
        place = ", ".join(f"{key}={value}" for key, value in first.items())
        raise ConfigError(f"space, at {place or 'its base'}: {error}") from None


def load_sweep(
    source: str | os.PathLike[str] | Mapping[str, Any], overrides: Iterable[str] = (), *, smoke: bool = False
) -> SweepConfig:
    """A validated sweep from a YAML file or a mapping.

    Args:
        source: path of a YAML file, or a nested mapping.
        overrides: ``"key=value"``; keys of the sweep such as ``search.trials``, all others of ``base``.
        smoke: shrink it, see :func:`shrunk`.

    Raises:
        ConfigError: a file that is missing or not YAML, an unknown key or an invalid value.
    """
    if isinstance(source, Mapping):
        check_size(source)
    tree: Any = copy.deepcopy(dict(source)) if isinstance(source, Mapping) else read_yaml(source)
    if not tree:
        raise ConfigError("config: found nothing, allowed: a sweep, with base and space")
    space = tree.get("space")
    for override in overrides:
        key = override.partition("=")[0]
        hidden = [name for name in space if f"{key}.".startswith(f"{name}.")] if isinstance(space, Mapping) else []
        if hidden:
            raise ConfigError(f"{key}: found in space as {hidden[0]}, allowed: space.{hidden[0]}=..., as that wins")
        apply_override(tree, override if key.split(".")[0] in SweepConfig.model_fields else f"base.{override}")
    check_size(tree)
    if not isinstance(source, Mapping):
        tree.setdefault("name", PurePath(source).stem)
    try:
        sweep = SweepConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain_errors(error, SweepConfig)) from None
    _check_keys(sweep)
    return shrunk(sweep) if smoke else sweep


#: What :func:`shrunk` sets in the base configuration.
SMOKE: dict[str, Any] = {
    "rounds": 1,
    "data": {"name": "digits", "train_samples": 100, "test_samples": 50},
    "partition": {"clients": 5},
    "model": {"name": "tiny-vit", "masked_blocks": 1},
    "cluster": {"executor": "serial"},
}
#: Keys that every dataset and backbone has; a smoke run is not about where data and weights are.
_COMMON = {"data": DataSettings.model_fields, "model": ModelSettings.model_fields}


def shrunk(sweep: SweepConfig) -> SweepConfig:
    """The same sweep in minutes on two cores, to see that it works: embedded data and backbone, one round, one seed.

    Grids over datasets, backbones and seeds have one value, longer grids of numbers keep their ends, all others stay;
    ranges are searched once.
    """
    base = dict(sweep.base)
    for key, value in SMOKE.items():
        if isinstance(value, dict):
            group = base.get(key)
            kept = dict(group) if isinstance(group, Mapping) and key != "cluster" else {}
            if kept.get("name") == "natural":  # the digits have no columns
                kept = {}
            base[key] = {k: v for k, v in kept.items() if k in _COMMON.get(key, kept)} | value
        else:
            base[key] = value
    single: dict[str, Any] = {"data.name": "digits", "model.name": "tiny-vit", "seed": 0, "rounds": 1}
    space = {}
    for key, dimension in sweep.space.items():
        group, _, name = key.partition(".")
        fixed = name in SMOKE.get(group, ()) and name != "name" if group in ("data", "partition", "model") else False
        if not fixed and name in _COMMON.get(group, (name,)) and key != "partition.column":
            grid = dimension.grid
            if grid and key == "partition.name":
                grid = [value for value in grid if value != "natural"] or ["iid"]
            if grid and key in single:
                grid = [single[key]]
            elif grid and len(grid) > 2 and all(isinstance(value, (int, float)) for value in grid):
                grid = [grid[0], grid[-1]]
            space[key] = dimension.model_copy(update={"grid": grid})
    search = sweep.search.model_copy(update={"trials": 1, "confirm": sweep.search.confirm[:1]})
    name = f"{sweep.name}-smoke"
    return sweep.model_copy(
        update={"name": name, "base": base, "space": space, "search": search, "early_stopping": None}
    )
