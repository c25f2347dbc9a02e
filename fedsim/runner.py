"""Running an experiment from Python: the same for both executors, with progress, resume and a clean end."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

import results
from fedsim.config import Config, load_config
from fedsim.errors import ConfigError


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


@dataclass(frozen=True)
class Progress:
    """Called while a run goes on.

    Attributes:
        on_start: before the first round, with the rows of the rounds that an earlier attempt stored, the last round's
            number and the run's folder.
        on_round: with each new row of the ``rounds`` table.
    """

    on_start: Callable[[list[dict[str, Any]], int, str], None] = field(default=lambda stored, last, path: None)
    on_round: Callable[[dict[str, Any]], None] = field(default=lambda row: None)


def run(
    config: Config | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    *,
    progress: Progress | None = None,
    fresh: bool = False,
) -> RunResult:
    """Run an experiment, or go on with it where an earlier attempt ended.

    Args:
        config: a configuration, a nested mapping, or the path of a YAML file.
        progress: called as the run goes on.
        fresh: delete what is stored of this run and start again.

    Raises:
        ConfigError: the configuration is invalid.
        ResourceError: the Ray cluster cannot hold the workers.
        KeyboardInterrupt: interrupted; the finished rounds are stored and the run's status is ``interrupted``.
    """
    if not isinstance(config, Config):
        config = load_config(config)
    progress = progress or Progress()
    output = config.output if "://" in config.output else os.path.abspath(config.output)
    store = results.RunStore(output, config.run_id)
    if fresh:
        store.delete()
    previous = store.read_run()
    if previous is not None and previous["status"] == "finished":
        return RunResult(store.location, previous, reused=True)
    with _open(config, output) as session:
        try:
            progress.on_start(session.stored_rounds(), config.rounds, store.location)
            while (row := session.step()) is not None:
                progress.on_round(row)
        except KeyboardInterrupt:
            _end(session, store, "interrupted", None)
            raise
        except Exception as error:
            _end(session, store, "failed", f"{type(error).__name__}: {error}")
            raise
        return RunResult(store.location, session.finish("finished"))


def resume(path: str | os.PathLike[str], *, progress: Progress | None = None) -> RunResult:
    """Go on with a run that was interrupted, failed or killed, with the configuration that it stored.

    Args:
        path: the run's folder, a local path or a URI.
        progress: as for :func:`run`.

    Raises:
        ConfigError: there is no run at ``path``.
    """
    output, _, run_id = os.fspath(path).rstrip("/").rpartition("/")
    row = results.RunStore(output or ".", run_id).read_run()
    if row is None:
        raise ConfigError(f"path: expected the folder of a run, found none at {os.fspath(path)!r}")
    return run(json.loads(row["config"]) | {"output": output or "."}, progress=progress)


class _Session(Protocol):
    """What runs the rounds: a simulation in this process, or one in the driver actor."""

    def stored_rounds(self) -> list[dict[str, Any]]: ...
    def step(self) -> dict[str, Any] | None: ...
    def finish(self, status: str, error: str | None = None) -> dict[str, Any]: ...


@contextmanager
def _open(config: Config, output: str) -> Iterator[_Session]:
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    # Imported here: validating a configuration or listing methods needs neither Ray nor a model.
    if config.cluster.executor == "serial":
        from fedsim.executors import SerialExecutor
        from fedsim.simulation import Simulation

        yield Simulation(config, SerialExecutor(config), output, command)
        return
    from fedsim.cluster import connect, plan_workers
    from fedsim.driver import RemoteSimulation

    with connect():
        yield RemoteSimulation(config, output, plan_workers(config.cluster, config.cohort_size), command)


def _end(session: _Session, store: results.RunStore, status: str, error: str | None) -> None:
    """End a run early; where not even its driver is left, at least the status is stored."""
    try:
        session.finish(status, error)
    except Exception:
        row = store.read_run()
        if row is not None:
            store.write_run(row | {"status": status, "error": error, "finished_at": datetime.now(timezone.utc)})
