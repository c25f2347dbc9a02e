"""One run as a trial of Ray Tune: the trial's process is the driver, its workers are in its placement group."""

from __future__ import annotations

from typing import Any

from ray import tune

from fedsim.config import Config
from fedsim.distributed import RayExecutor
from fedsim.engine import Executor, SerialExecutor, Simulation, set_threads
from fedsim.errors import in_words


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
        if self._simulation is None:
            self._simulation = Simulation(
                run, _executor(run), self._trial["output"], self._trial["command"], self._trial["tried"]
            )
        try:
            row = self._simulation.step() or {"round": run.rounds}
            if row["round"] == run.rounds:
                self._finish("finished")
        except Exception as error:
            self._finish("failed", in_words(error))
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

    def _finish(self, status: str, error: str | None = None) -> None:
        if self._simulation is not None:
            simulation, self._simulation = self._simulation, None
            simulation.finish(status, error)


def _executor(config: Config) -> Executor:
    if config.cluster.executor == "serial":
        return SerialExecutor(config)
    set_threads(1)
    return RayExecutor(config, trial_workers(config))


def trial_workers(config: Config) -> int:
    """Workers of a trial: one, unless the configuration says more; a sweep has many trials to run at once."""
    return config.cluster.workers or 1


def trial_resources(config: Config) -> tune.PlacementGroupFactory:
    """Resources of a trial: a bundle for each worker; the driver computes little and takes none."""
    need = {"CPU": config.cluster.cpus_per_worker, "GPU": config.cluster.gpus_per_worker}
    if config.cluster.executor == "serial":
        return tune.PlacementGroupFactory([need])
    return tune.PlacementGroupFactory([{}, *[need] * trial_workers(config)])
