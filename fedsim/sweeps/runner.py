"""Running a sweep on Ray Tune: trials, retries, early stopping, and what is told while it goes on."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from fedsim.callbacks import Callback
from fedsim.distributed import connect
from fedsim.provenance import command_line
from fedsim.sweeps.config import SweepConfig
from fedsim.sweeps.plan import Plan
from fedsim.sweeps.storage import open_storage
from fedsim.sweeps.tracker import SweepResult, Tracker
from fedsim.sweeps.trial import Trial, trial_resources

_SWITCHES = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # what they log is in the results
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths in a configuration are the user's
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # no checkpoints of the sweep itself
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a round without evaluation has no metric
}


def run_sweep(sweep: SweepConfig, callbacks: Iterable[Callback] = ()) -> SweepResult:
    """Run what is not yet finished of a sweep; see :func:`fedsim.sweep`."""
    storage = sweep.search.storage
    plan = Plan(sweep, None if storage is None else open_storage(storage))
    tracker = Tracker(plan, callbacks, sweep.name)
    if not tracker.only_reused():
        for name, value in _SWITCHES.items():  # before Ray starts, whose processes inherit them
            os.environ.setdefault(name, value)
        with connect(plan.py_modules):
            _tune(sweep, tracker)
    tracker.settle()
    if not plan.done:
        raise KeyboardInterrupt
    tracker.callbacks.check()
    return tracker.result()


class _NotStored:
    """Tune stores what it is given; a sweep goes on from the results instead."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> _NotStored:
        return self


class _Searcher(_NotStored, Searcher):
    """Gives Tune the plan's jobs as trials."""

    def __init__(self, tracker: Tracker, command: str) -> None:
        super().__init__()
        self._tracker, self._command = tracker, command

    def suggest(self, trial_id: str) -> Any:
        job = self._tracker.next()
        if job is None:
            return Searcher.FINISHED if self._tracker.done else None
        self._tracker.jobs[trial_id] = job
        return {
            "run": job.config,
            "of_sweep": job.columns,
            "output": self._tracker.output,
            "command": self._command,
        }

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """The callback is told; it knows the error too."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what is stored of the runs says where a sweep is."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


class _Callback(_NotStored, tune.Callback):
    """Passes on what happens to trials."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._tracker.started(trial.trial_id)

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        if "accuracy" in result:
            self._tracker.round(trial.trial_id, result)

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._tracker.ended(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        error = trial.get_error()
        cause = getattr(error, "cause", None) or error
        words = f"{type(cause).__name__}: {cause}" if cause else "its process died before it could say why"
        self._tracker.ended(trial.trial_id, words)


def _tune(sweep: SweepConfig, tracker: Tracker) -> None:
    scheduler: TrialScheduler = FIFOScheduler()
    if (stopping := sweep.early_stopping) is not None:
        scheduler = ASHAScheduler(
            time_attr="round",
            metric=stopping.column,
            mode=stopping.mode,
            grace_period=stopping.grace_rounds,
            reduction_factor=stopping.reduction_factor,
            max_t=1_000_000,
        )
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # errors of runs are in the results, and shown
    with tempfile.TemporaryDirectory(prefix="fedsim-sweep-") as folder:
        tune.Tuner(
            tune.with_resources(Trial, lambda config: trial_resources(config["run"])),
            tune_config=tune.TuneConfig(
                search_alg=_Searcher(tracker, command_line()),
                scheduler=scheduler,
                num_samples=tracker.total,
                max_concurrent_trials=sweep.concurrent,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                storage_path=folder,
                failure_config=tune.FailureConfig(max_failures=sweep.retries),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[_Callback(tracker)],
                verbose=0,
            ),
        ).fit()
