"""Copies of a sweep's searches in a storage of Optuna, for ``optuna-dashboard``; no search ever reads them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from fedsim.errors import ConfigError

_MARK = "fedsim"  # user attribute of the studies that are copies
_ERRORS = (optuna.exceptions.OptunaError, OSError, RuntimeError)


def open_storage(place: str) -> BaseStorage:
    """The storage at ``sqlite:///PATH`` or ``journal:PATH``, made where there is none.

    Raises:
        ConfigError: it cannot be opened.
    """
    kind, _, path = place.partition(":")
    try:
        return JournalStorage(JournalFileBackend(path)) if kind == "journal" else RDBStorage(place)
    except Exception as error:  # of SQLAlchemy, Alembic or json, by what the file is
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"search.storage: found {place!r}, allowed: a file of Optuna or a new one, in an existing folder ({reason})"
        ) from error


def study_name(sweep: str, point: Mapping[str, Any]) -> str:
    """The name of the study at a point of the grid: ``NAME``, or ``NAME: method.name=fedavg, seed=0``."""
    values = ", ".join(f"{key}={value}" for key, value in point.items())
    return f"{sweep}: {values}" if values else sweep


class Copy:
    """A study of a storage that is written anew from a sweep's first trial on, whatever an earlier start left there.

    What fails later than at the beginning ends the copy with a warning, and not the sweep.

    Args:
        storage: where.
        name: of the study.
        directions: of its objectives.
        columns: names of its objectives.

    Raises:
        ConfigError: there is a study of this name that no sweep has written, or the storage cannot be written.
    """

    def __init__(
        self, storage: BaseStorage, name: str, directions: Sequence[StudyDirection], columns: Sequence[str]
    ) -> None:
        self._name = name
        try:
            if name in optuna.get_all_study_names(storage):
                if _MARK not in optuna.load_study(study_name=name, storage=storage).user_attrs:
                    raise ConfigError(
                        f"search.storage: found a study {name!r} that no sweep has written, allowed: another storage, "
                        "or another name of the sweep"
                    )
                optuna.delete_study(study_name=name, storage=storage)
            self._study: optuna.Study | None = optuna.create_study(
                storage=storage, study_name=name, directions=directions
            )
            self._study.set_user_attr(_MARK, "a copy; the results of the sweep are the truth")
            with warnings.catch_warnings():  # experimental, as Optuna says of it since version 3.2
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self._study.set_metric_names(list(columns))
        except _ERRORS as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"search.storage: found one that cannot be written, allowed: others ({error})") from error

    def begin(self, trial: FrozenTrial) -> None:
        """A trial that runs."""
        self._try(lambda study: study.add_trial(trial))

    def end(self, trial: FrozenTrial) -> None:
        """The same trial with its values, or failed."""
        values = trial.values if trial.state == TrialState.COMPLETE else None
        self._try(lambda study: study.tell(trial.number, values, trial.state))

    def _try(self, write: Callable[[optuna.Study], Any]) -> None:
        if self._study is None:
            return
        try:
            write(self._study)
        except _ERRORS as error:
            self._study = None
            warnings.warn(f"search.storage: the study {self._name!r} ends here: {error}", stacklevel=3)
