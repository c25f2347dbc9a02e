"""Weights & Biases: the numbers of each round, the configuration and the report of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import wandb

from fedsim.callbacks._callback import Callback, Run
from fedsim.callbacks._values import metrics, report


class WeightsAndBiases(Callback):
    """Makes each run a run of a project, in the group of its sweep. ``WANDB_MODE=offline`` works as it does elsewhere.

    A run that goes on, goes on there too: its name is its identity.

    Args:
        project: its name.
    """

    def __init__(self, project: str) -> None:
        self._project = project
        self._runs: dict[str, Any] = {}

    def start(self, run: Run) -> None:
        run_id = run.config.run_id
        self._close(run_id, 1)  # an attempt that failed, in a sweep
        self._runs[run_id] = wandb.init(
            project=self._project,
            id=run_id,
            name=run_id,
            group=run.sweep.name if run.sweep is not None else None,
            config=run.config.model_dump(mode="json"),
            resume="allow",
            reinit="create_new",  # runs of a sweep go on side by side
            settings=wandb.Settings(silent=True, console="off"),
        )
        for row in run.stored:
            self.round(run, row)

    def round(self, run: Run, row: Mapping[str, Any]) -> None:
        self._runs[run.config.run_id].log(metrics(row), step=row["round"])

    def end(self, run: Run, row: Mapping[str, Any]) -> None:
        logged = self._runs.get(run.config.run_id)
        if logged is None:  # reused
            return
        logged.summary.update({key: value for key, value in metrics(row).items()} | {"status": row["status"]})
        columns = {key: str(value) for key, value in row.items() if value is not None and key != "config"}
        logged.log({"run": wandb.Table(columns=["column", "value"], data=[list(pair) for pair in columns.items()])})
        with report(run) as folder:
            if folder is not None:
                artifact = wandb.Artifact(run.config.run_id, "report")
                for file in sorted(folder.iterdir()):
                    artifact.add_file(str(file))
                logged.log_artifact(artifact)
        self._close(run.config.run_id, int(row["status"] == "failed"))

    def _close(self, run_id: str, code: int) -> None:
        if (logged := self._runs.pop(run_id, None)) is not None:
            logged.finish(exit_code=code)
