"""One run as a trial of Ray Tune: the trial's process is the driver, its workers are in its placement group."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from ray import tune

from fedsim.config import Config
from fedsim.distributed import RayExecutor, start_workers
from fedsim.engine import Executor, SerialExecutor, Simulation, run_row, set_threads
from fedsim.errors import ConfigError, DataError, full_trace, in_words
from results import OwnershipError, RunStore
from results.log import RunLog


class Trial(tune.Trainable):
    """A run, a round a step. It keeps its own checkpoints with its results, so Tune needs none."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take a run; it is opened by the first step, as Tune also sets up trials that it does not use."""
        self._trial = config
        self._simulation: Simulation | None = None
        self._row: dict[str, Any] = {}

    def step(self) -> dict[str, Any]:
        """The next round's row of the rounds table, with the last evaluation where it has none of its own.

        The run goes on where an earlier attempt ended.
        """
        run: Config = self._trial["run"]
        try:
            if self._simulation is None:
                output = self._trial["output"]
                executor = _executor(run.model_copy(update={"output": output}))
                self._simulation = Simulation(run, executor, output, self._trial["command"], self._trial["of_sweep"])
            row = self._simulation.step() or {"round": run.rounds}
            if row["round"] == run.rounds:
                self._finish("finished")
        except Exception as error:
            self._fail(run, error)
            if isinstance(error, (ConfigError, DataError)):  # another attempt would end the same way
                return {**self._row, "round": run.rounds, "done": True}
            raise
        self._row |= row
        return {**self._row, "done": row["round"] == run.rounds}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go on with another run in this process, which has loaded all it needs."""
        self.cleanup()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """End a run that was stopped before its last round."""
        self._finish("interrupted")

    def _finish(self, status: str, error: str | None = None, trace: str | None = None) -> None:
        if self._simulation is not None:
            simulation, self._simulation = self._simulation, None
            simulation.finish(status, error, trace)

    def _fail(self, run: Config, error: Exception) -> None:
        """Store an error, also of a run that could not even begin; unless what is stored is another process's."""
        if isinstance(error, OwnershipError):
            self._simulation = None
        elif self._simulation is not None:
            self._finish("failed", in_words(error), full_trace(error))
        else:
            row = run_row(run, datetime.now(timezone.utc)) | self._trial["of_sweep"]
            store = RunStore(self._trial["output"], run.run_id)
            with suppress(OwnershipError):
                store.lock()
                RunLog(store).add(f"failed:\n{full_trace(error)}")
                store.end("failed", in_words(error), row)


def _executor(config: Config) -> Executor:
    if config.cluster.executor == "serial":
        return SerialExecutor(config)
    set_threads(1)
    return RayExecutor(config, start_workers(config, [None] * trial_workers(config)))


def trial_workers(config: Config) -> int:
    """Workers of a trial: one, unless the configuration says more; a sweep has many trials to run at once."""
    return config.cluster.workers or 1


def trial_resources(config: Config) -> tune.PlacementGroupFactory:
    """Resources of a trial: a bundle for each worker; the driver computes little and takes none."""
    need = {"CPU": config.cluster.cpus_per_worker, "GPU": config.cluster.gpus_per_worker}
    if config.cluster.executor == "serial":
        return tune.PlacementGroupFactory([need])
    return tune.PlacementGroupFactory([{}, *[need] * trial_workers(config)])
