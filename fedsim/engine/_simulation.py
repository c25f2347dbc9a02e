"""One run from its start or its checkpoint to its end: rounds, rows, checkpoints, status."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import pandas as pd

import results
from fedsim.config import Config
from fedsim.engine._executors import Executor
from fedsim.engine._extension import shorter_run
from fedsim.engine._federation import Federation
from fedsim.engine._following import FollowedExecutor
from fedsim.engine._records import Records
from fedsim.engine._rows import run_row
from fedsim.errors import CheckpointError
from fedsim.provenance import describe_machine, git_commit
from results.log import RunLog

_OF_SWEEP = ("sweep", "trial", "search")  # columns that a run keeps which is resumed without its sweep


class Simulation:
    """Runs rounds one by one and stores them as they finish, so that a crash costs what came after the checkpoint.

    It goes on from the newest checkpoint whose rounds are all stored: :class:`fedsim.engine._records.Records`.

    Args:
        config: the experiment.
        executor: computes the clients; closed by :meth:`finish`.
        output: folder of all runs, absolute where it is local.
        command: command line to store with the results.
        of_sweep: columns of the runs table that a sweep knows: ``sweep``, ``trial`` and ``search``.

    Attributes:
        output: what clients printed in the last round, each line after the client's name.
    """

    def __init__(
        self,
        config: Config,
        executor: Executor,
        output: str,
        command: str = "",
        of_sweep: Mapping[str, Any] | None = None,
    ) -> None:
        self._config, self._executor = config, FollowedExecutor(executor)
        self._store = results.RunStore(output, config.run_id)
        self._store.lock()
        self._log, self.output = RunLog(self._store), ""
        self._federation = Federation(config, self._executor)
        self._records = Records(self._store, output, config.cluster)
        expected = self._federation.state()
        state = self._records.resume(expected)
        if state is None and (shorter := shorter_run(config, output)) is not None:
            with suppress(CheckpointError):  # else it starts from the first round
                state = self._records.continue_from(shorter, output, expected)
        if state is not None:
            self._federation.restore(state)
        self._between_rounds = True
        previous = self._store.run_or_none()
        self._row: dict[str, Any] = {
            **run_row(config, previous["started_at"] if previous else datetime.now(timezone.utc)),
            "status": "running",
            "weights": self._federation.weights,
            "masked_parameters": self._federation.dimension,
            "version": version("deltamask"),
            "git_commit": git_commit(),
            "command": command,
            **(of_sweep or {name: previous.get(name) for name in _OF_SWEEP if previous}),
            "machine": describe_machine(),
        }
        if previous and self._records.next_round:
            for name in ("version", "git_commit", "machine"):
                if previous[name] != self._row[name]:
                    note = f"rounds before {self._records.next_round} come from another {name}: {previous[name]}"
                    self._records.warnings.append(note)
        self._store.write_run(self._row)

    def stored_rounds(self) -> list[dict[str, Any]]:
        """Rows of the ``rounds`` table that an earlier attempt has stored."""
        rows: Any = self._store.rows("rounds")[0].to_pandas().to_dict("records")
        return list(rows)

    def step(self) -> dict[str, Any] | None:
        """Run and store the next round; return its row of the ``rounds`` table, or None when all are done."""
        if self._federation.done:
            return None
        self._between_rounds = False
        outcome = self._federation.run_round()
        self._records.add(outcome)
        self._take_output(outcome.round["round"])
        self._between_rounds = True
        if self._records.checkpoint_due() and not self._federation.done:
            self._records.checkpoint(self._federation.state())
        return outcome.round

    def _take_output(self, round_index: int) -> None:
        self.output = self._executor.take_output()
        if self.output:
            self._log.add(f"printed in round {round_index}:\n{self.output}")

    def phase(self) -> str:
        """The work in progress, in words."""
        return self._executor.phase

    def finish(self, status: str, error: str | None = None, trace: str | None = None) -> dict[str, Any]:
        """End the run with a status of :data:`results.schema.STATUSES`; return its row of the ``runs`` table.

        Args:
            status: the status.
            error: what failed, for the table.
            trace: the same with all calls that led there, for the log.

        Raises:
            DamagedError: the run was to be ``finished``, and rounds that it had stored are missing or changed.
            OwnershipError: another process took the run over.
        """
        self._executor.close()
        self._take_output(self._records.next_round)
        if trace is not None:
            self._log.add(f"{status}:\n{trace}")
        self._log.write()
        if self._between_rounds and (status != "finished"):
            self._records.checkpoint(self._federation.state())
        rounds, lost = self._records.close()
        if lost and status == "finished":
            raise self._records.incomplete(lost)
        row = self._row | {"status": status, "error": error, "finished_at": datetime.now(timezone.utc)}
        warnings = [*self._records.warnings, *([self._federation.warnings] if self._federation.warnings else [])]
        row["warnings"] = "; ".join(warnings) or row.get("warnings")
        if len(rounds):
            row |= {
                "linear_probe_accuracy": rounds["accuracy"].iloc[0],
                "final_accuracy": rounds["accuracy"].dropna().iloc[-1],
                **_best(rounds),
                "uplink_bytes": int(rounds["uplink_bytes"].sum()),
                "downlink_bytes": int(rounds["downlink_bytes"].sum()),
                "wall_seconds": rounds["round_seconds"].sum(),
            }
        trained = rounds[rounds["round"] > 0]
        if len(trained):
            row["uplink_bpp"] = trained["uplink_bpp"].mean()
        self._store.write_run(row)
        if status == "finished":
            self._records.finish(self._federation.state())
        self._store.unlock()
        return row


def _best(rounds: pd.DataFrame) -> dict[str, Any]:
    """Columns of the ``runs`` table about the round to keep: chosen on validation samples, never on test samples."""
    if rounds["validation_accuracy"].isna().all():
        return {"best_accuracy": rounds["accuracy"].dropna().iloc[-1]}
    order = {"validation_accuracy": False, "validation_loss": True, "round": True}
    best = rounds.sort_values(list(order), ascending=list(order.values())).iloc[0]
    return {
        "best_accuracy": best["accuracy"],
        "best_round": int(best["round"]),
        "validation_accuracy": best["validation_accuracy"],
    }
