"""TensorBoard: the numbers of each round, hyperparameters and figures of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from torch.utils.tensorboard import SummaryWriter

import results
from fedsim.callbacks._callback import Callback, Run
from fedsim.callbacks._values import metrics, parameters


class TensorBoard(Callback):
    """Writes each run to a folder of its own, in a sweep below the sweep's name.

    A run that goes on writes the rounds of earlier attempts again, so that its folder has each once.

    Args:
        folder: of all logs, a local path.
    """

    def __init__(self, folder: str) -> None:
        self._folder = os.path.expanduser(folder)
        self._writers: dict[str, SummaryWriter] = {}

    def start(self, run: Run) -> None:
        self._close(run)  # of an attempt that failed, in a sweep
        parts = [run.sweep.name] if run.sweep is not None else []
        folder = os.path.join(self._folder, *parts, run.config.run_id)
        # What a reader has of these rounds from before does not count any more.
        writer = self._writers[run.config.run_id] = SummaryWriter(folder, purge_step=0)
        writer.add_text("configuration", f"```json\n{json.dumps(run.config.model_dump(mode='json'), indent=2)}\n```", 0)
        for row in run.stored:
            self.round(run, row)

    def round(self, run: Run, row: Mapping[str, Any]) -> None:
        for name, value in metrics(row).items():
            self._writers[run.config.run_id].add_scalar(name, value, row["round"])

    def end(self, run: Run, row: Mapping[str, Any]) -> None:
        writer = self._writers.get(run.config.run_id)
        if writer is None:  # reused
            return
        text = "\n".join(f"| {key} | {value} |" for key, value in row.items() if key != "config" and value is not None)
        writer.add_text("run", f"| column | value |\n|---|---|\n{text}", run.config.rounds)
        # Names of their own, as those of rounds are curves.
        ended = {f"run/{name}": value for name, value in metrics(row).items() if name not in ("rounds", "clients")}
        writer.add_hparams(parameters(run), ended, run_name=".", global_step=run.config.rounds)
        loaded = results.load(run.path)
        if not loaded.rounds.empty:
            from results import figures  # slow to import

            writer.add_figure("accuracy and bpp", figures.accuracy_and_bpp(loaded), run.config.rounds)
        self._close(run)

    def _close(self, run: Run) -> None:
        if (writer := self._writers.pop(run.config.run_id, None)) is not None:
            writer.close()
