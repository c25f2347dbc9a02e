"""The tracker of a sweep: its jobs, their rows in the results, and the callbacks that are told of them; without Ray."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import results
from fedsim.callbacks import Callback, CallbackGroup, Run, Sweep, loggers
from fedsim.engine import run_row
from fedsim.sweeps.plan import Job, Plan


@dataclass(frozen=True)
class SweepResult:
    """A sweep that has ended.

    Attributes:
        path: folder of all runs, a local path or a URI.
        run_ids: its runs, those that failed too.
        failed: how many failed, with their error in the runs table.
        stopped: how many were stopped early.
        reused: how many had finished before and were not computed again.
    """

    path: str
    run_ids: tuple[str, ...]
    failed: int
    stopped: int
    reused: int

    def load(self) -> results.Results:
        """The tables of its runs."""
        return results.load(self.path, where={"run_id": list(self.run_ids)})


class Tracker:
    """Brings together the plan, the stored runs and what happens to trials.

    Args:
        plan: of the sweep.
        callbacks: are told of all runs, after those of the plan's ``log`` group.
        name: of the sweep.
    """

    def __init__(self, plan: Plan, callbacks: Iterable[Callback], name: str) -> None:
        self._plan = plan
        self.callbacks = CallbackGroup([*loggers(plan.log), *callbacks])
        self.output = plan.output
        self._sweep = Sweep(name, plan.total, plan.output)
        self.jobs: dict[str, Job] = {}  # of Tune's trials
        self._statuses: dict[str, str] = {}
        self._reused = 0
        self._following: Job | None = None

    def only_reused(self) -> bool:
        """Take what had finished before, up to the first job that has to run; whether there is none."""
        self._following = self.next()
        return self._following is None and self._plan.done

    @property
    def done(self) -> bool:
        """Whether all results are known."""
        return self._plan.done

    @property
    def total(self) -> int:
        """Number of runs."""
        return self._plan.total

    def next(self) -> Job | None:
        """The next job that has to run; None when it depends on results that are missing, or there is none."""
        following, self._following = self._following, None
        if following is not None:
            return following
        while (job := self._plan.next()) is not None:
            row = self._stored(job)
            if row is None or row["status"] not in ("finished", "stopped"):
                return job
            self._reused += 1
            self._end(job, row, reused=True)
        return None

    def started(self, trial: str) -> None:
        """A trial begins, or begins again."""
        self.callbacks.start(self._run(self.jobs[trial]))

    def round(self, trial: str, row: Mapping[str, Any]) -> None:
        """A trial has a new row of the rounds table."""
        self.callbacks.round(self._run(self.jobs[trial]), row)

    def ended(self, trial: str, error: str | None) -> None:
        """A trial has ended: failed for good with an error, or is finished, or was stopped early by the scheduler."""
        job = self.jobs[trial]
        row = self._stored(job)
        if error is not None and (row is None or row["status"] != "failed"):
            row = self._record(job, row, "failed", error)
        assert row is not None
        if error is None and row["status"] not in ("finished", "failed"):
            row = self._record(job, row, "stopped", None)
        self._end(job, row, reused=False)

    def settle(self) -> None:
        """Name stopped runs as such: their trials, which ended after we heard of it, called them interrupted."""
        for job in self.jobs.values():
            if self._statuses.get(job.config.run_id) == "stopped":
                row = self._stored(job)
                if row is not None and row["status"] != "stopped":
                    self._record(job, row, "stopped", None)

    def result(self) -> SweepResult:
        """The outcome of the runs."""
        counts = list(self._statuses.values())
        return SweepResult(
            self.output, tuple(self._statuses), counts.count("failed"), counts.count("stopped"), self._reused
        )

    def _end(self, job: Job, row: Mapping[str, Any], *, reused: bool) -> None:
        self._statuses[job.config.run_id] = row["status"]
        # A run that was computed before, by no sweep or another one, belongs to this one all the same.
        of_sweep = {name: value for name, value in job.columns.items() if row.get(name) is None}
        self.callbacks.end(self._run(job, reused=reused), {**row, **of_sweep})
        self._plan.tell(job, row if row["status"] == "finished" else None)

    def _run(self, job: Job, *, reused: bool = False) -> Run:
        return Run(job.config, self._store(job).location, values=job.values, reused=reused, sweep=self._sweep)

    def _store(self, job: Job) -> results.RunStore:
        return results.RunStore(self.output, job.config.run_id)

    def _stored(self, job: Job) -> dict[str, Any] | None:
        return self._store(job).run_or_none()

    def _record(self, job: Job, row: Mapping[str, Any] | None, status: str, error: str | None) -> dict[str, Any]:
        # It may have failed before it could write its own.
        row = row or run_row(job.config, datetime.now(timezone.utc)) | job.columns
        try:
            return self._store(job).end(status, error, row) or {}
        except results.OwnershipError as owned:  # by another process, or by a trial that is not yet gone
            return {**row, "status": status, "error": error and str(owned)}
