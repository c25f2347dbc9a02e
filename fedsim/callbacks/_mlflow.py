"""MLflow: the numbers of each round, parameters and the report of a run."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from fedsim.callbacks._callback import Callback, Run
from fedsim.callbacks._values import metrics, parameters, report

_STATUSES = {"finished": "FINISHED", "failed": "FAILED"}  # others were stopped, in some way
_BATCH = 100  # parameters that a server takes at once
_RUN_ID = "fedsim.run_id"


class MLflow(Callback):
    """Makes each run a run of MLflow, in the experiment ``fedsim``, or in one of the sweep's name.

    A run that goes on is found again by its tag ``fedsim.run_id``.

    Args:
        uri: of the tracking server or store.
    """

    def __init__(self, uri: str) -> None:
        self._client = MlflowClient(tracking_uri=uri)
        self._runs: dict[str, str] = {}  # MLflow's names of ours

    def start(self, run: Run) -> None:
        name = run.sweep.name if run.sweep is not None else "fedsim"
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        run_id = run.config.run_id
        known = self._client.search_runs([experiment_id], f"tags.`{_RUN_ID}` = '{run_id}'", max_results=1)
        if known:
            self._runs[run_id] = known[0].info.run_id
            self._client.update_run(self._runs[run_id], "RUNNING")
            return
        tags = {_RUN_ID: run_id, "fedsim.path": run.path, **({"fedsim.sweep": name} if run.sweep is not None else {})}
        self._runs[run_id] = self._client.create_run(experiment_id, tags=tags, run_name=run_id).info.run_id
        params = [Param(key, str(value)) for key, value in parameters(run).items()]
        for first in range(0, len(params), _BATCH):
            self._client.log_batch(self._runs[run_id], params=params[first : first + _BATCH])
        for row in run.stored:
            self.round(run, row)

    def round(self, run: Run, row: Mapping[str, Any]) -> None:
        now = int(time.time() * 1000)
        found = [Metric(name, value, now, row["round"]) for name, value in metrics(row).items()]
        self._client.log_batch(self._runs[run.config.run_id], metrics=found)

    def end(self, run: Run, row: Mapping[str, Any]) -> None:
        name = self._runs.pop(run.config.run_id, None)
        if name is None:  # reused
            return
        self._client.log_dict(name, json.loads(json.dumps(dict(row), default=str)), "run.json")
        self._client.log_dict(name, run.config.model_dump(mode="json"), "configuration.yaml")
        with report(run) as folder:
            if folder is not None:
                self._client.log_artifacts(name, str(folder), "report")
        self._client.set_terminated(name, _STATUSES.get(row["status"], "KILLED"))
