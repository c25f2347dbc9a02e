"""The tracker of a sweep: its jobs, their rows in the results, and the callback that is told of them; without Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import results
from fedsim.engine import run_row
from fedsim.sweeps.plan import Job, Plan


class SweepCallback:
    """Callbacks while a sweep goes on; a subclass shows it."""

    def begin(self, total: int, output: str) -> None:
        """Before the first run; ``total`` is the number of runs."""

    def started(self, job: Job) -> None:
        """A run begins, or begins again."""

    def round(self, job: Job, row: Mapping[str, Any]) -> None:
        """A row of the rounds table."""

    def ended(self, job: Job, row: Mapping[str, Any], *, reused: bool) -> None:
        """A run has ended, or had ended before (``reused``); its row of the runs table."""


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
    """Brings together the plan, the stored runs and what happens to trials."""

    def __init__(self, plan: Plan, callback: SweepCallback | None) -> None:
        self._plan, self._callback = plan, callback or SweepCallback()
        self.output = plan.output
        self.jobs: dict[str, Job] = {}  # of Tune's trials
        self._statuses: dict[str, str] = {}
        self._reused = 0
        self._following: Job | None = None
        self._callback.begin(plan.total, self.output)

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
        self._callback.started(self.jobs[trial])

    def round(self, trial: str, row: Mapping[str, Any]) -> None:
        """A trial has a new row of the rounds table."""
        self._callback.round(self.jobs[trial], row)

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
        self._callback.ended(job, row, reused=reused)
        self._plan.tell(job, row if row["status"] == "finished" else None)

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
