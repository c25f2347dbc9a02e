"""Running an experiment from Python: the same for both executors, with progress, resume and a clean end."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import results
from fedsim.callbacks import Callback, CallbackGroup, Run, loggers
from fedsim.config import Config, load_config, load_stored_config
from fedsim.errors import ConfigError, FedsimError, full_trace, in_words
from fedsim.provenance import command_line, of_other_code


@dataclass(frozen=True)
class RunResult:
    """A run that has ended.

    Attributes:
        path: its folder, a local path or a URI, for :func:`results.load`.
        row: its row of the ``runs`` table.
        reused: it had finished before and was not computed again.
    """

    path: str
    row: dict[str, Any]
    reused: bool = False

    def load(self) -> results.Results:
        """The run's tables."""
        return results.load(self.path)

    def _repr_html_(self) -> str:
        words = f"{self.row['run_id']}: {self.row['status']}{', before' * self.reused}; {self.path}"
        return f"<p>{html.escape(words)}</p>\n{self.load()._repr_html_()}"


def run(
    config: Config | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    *,
    callbacks: Iterable[Callback] = (),
    fresh: bool = False,
    same_version: bool = False,
) -> RunResult:
    """Run an experiment, or go on with it where an earlier attempt ended.

    Args:
        config: a configuration, a nested mapping, or the path of a YAML file.
        callbacks: told as the run goes on, after those of the configuration's ``log`` group.
        fresh: delete what is stored of this run and start again.
        same_version: the same for a finished run of another version or commit of the code, which is else reused.

    Raises:
        ConfigError: the configuration is invalid.
        ResourceError: the Ray cluster cannot hold the workers.
        CallbackError: a callback raised; the run ended as ``failed``, or had ended.
        KeyboardInterrupt: interrupted; the finished rounds are stored and the run's status is ``interrupted``.
    """
    if not isinstance(config, Config):
        config = load_config(config)
    told = CallbackGroup([*loggers(config.log), *callbacks])
    output = config.output if "://" in config.output else os.path.abspath(config.output)
    if os.path.isfile(output):
        raise ConfigError(f"output: found the file {config.output!r}, allowed: a folder")
    store = results.RunStore(output, config.run_id)
    previous = store.run_or_none()
    if previous is not None and previous["status"] == "finished" and not fresh:
        if not (same_version and of_other_code(previous)):
            told.end(Run(config, store.location, reused=True), previous)
            told.check()
            return RunResult(store.location, previous, reused=True)
        fresh = True
    with _open(config, output, store.delete if fresh else lambda: None) as session:
        ours = False  # until the session is open, another process may be writing this run
        of_run = Run(config, store.location, phase=session.phase)
        try:
            of_run = replace(of_run, stored=tuple(session.stored_rounds()))
            ours = True
            told.start(of_run)
            told.check()
            while (row := session.step()) is not None:
                told.round(of_run, row)
                told.check()
            ended = session.finish("finished")
        except results.OwnershipError:
            raise  # what is stored is another process's now
        except KeyboardInterrupt:
            row = _end(session, store if ours else None, "interrupted", None)
            if row is not None and ours:
                told.end(of_run, row)
            raise
        except Exception as error:
            row = _end(session, store, "failed", error) if ours else None
            if row is not None:
                told.end(of_run, row)
            raise
    told.end(of_run, ended)
    told.check()
    return RunResult(store.location, ended)


def resume(
    path: str | os.PathLike[str],
    overrides: Iterable[str] = (),
    *,
    trust: bool = False,
    callbacks: Iterable[Callback] = (),
) -> RunResult:
    """Go on with a run that was interrupted, failed or killed, with the configuration that it stored.

    Args:
        path: the run's folder, a local path or a URI.
        overrides: ``"key=value"``, of keys that do not change results such as ``cluster.workers``. Code that the stored
            configuration names as ``package.module:Class`` is imported only when it is named here again.
        trust: import whatever code the stored configuration names.
        callbacks: as for :func:`run`.

    Raises:
        ConfigError: there is no run at ``path``.
        DamagedError: its ``run.parquet`` is damaged, which holds the configuration.
    """
    location = os.fspath(path)
    output, run_id = results.split_location(location)
    row = results.RunStore(output, run_id).read_run()
    if row is None:
        raise ConfigError(f"path: expected the folder of a run, found none at {location!r}")
    stored = json.loads(row["config"])
    if "partition" not in stored:
        raise ConfigError(f"path: {location!r} holds a run of version 0.1, which cannot be resumed; start it again")
    config = load_stored_config(stored | {"output": output}, overrides, trust=trust)
    if not run_id == row["run_id"] == config.run_id:
        raise ConfigError(
            f"path: the folder {run_id!r} holds the run {row['run_id']!r}, whose configuration now gives "
            f"{config.run_id!r}; all three must agree (was it renamed, or its configuration changed?)"
        )
    return run(config, callbacks=callbacks)


class _Session(Protocol):
    """A simulation in this process, or one in the driver actor."""

    def stored_rounds(self) -> list[dict[str, Any]]: ...
    def step(self) -> dict[str, Any] | None: ...
    def phase(self) -> str: ...
    def finish(self, status: str, error: str | None = None, trace: str | None = None) -> dict[str, Any]: ...


@contextmanager
def _open(config: Config, output: str, prepare: Callable[[], None]) -> Iterator[_Session]:
    """Open a session; ``prepare`` is called when what can be checked beforehand has been."""
    command = command_line()
    # Imported here: validating a configuration or listing methods needs neither Ray nor a model.
    if config.cluster.executor == "serial":
        from fedsim.engine import SerialExecutor, Simulation

        executor = SerialExecutor(config.model_copy(update={"output": output}))
        prepare()
        yield Simulation(config, executor, output, command)
        return
    from fedsim.distributed import RemoteSimulation, connect, plan_workers

    with connect(config.cluster.py_modules):
        workers = plan_workers(config.cluster, config.cohort_size)
        prepare()
        with closing(RemoteSimulation(config, output, workers, command)) as session:
            yield session


def _end(
    session: _Session, store: results.RunStore | None, status: str, error: Exception | None
) -> dict[str, Any] | None:
    """End a run early; where not even its driver is left, at least the status is stored, if there is a store.

    Its row of the ``runs`` table, where there is one.
    """
    words, trace = (None, None) if error is None else (in_words(error), full_trace(error))
    if isinstance(error, FedsimError) and store is not None:
        error.run = store.location
    try:
        return session.finish(status, words, trace)
    except BaseException:  # also a second Ctrl-C
        if store is not None:
            with suppress(results.OwnershipError):
                return store.end(status, words)
    return None
