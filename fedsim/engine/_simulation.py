"""One run from its start or its checkpoint to its end: rounds, rows, checkpoints, status."""

from __future__ import annotations

from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import pandas as pd

import results
from fedsim.config import Config
from fedsim.engine._checkpoint import load_checkpoint, save_checkpoint
from fedsim.engine._executors import Executor
from fedsim.engine._federation import VARYING, Federation
from fedsim.engine._rows import run_row
from fedsim.provenance import describe_machine, git_commit


class Simulation:
    """Runs rounds one by one and stores each as it finishes, so that a crash costs the round in flight.

    A run that has a checkpoint goes on after its last finished round.

    Args:
        config: the experiment.
        executor: computes the clients; closed by :meth:`finish`.
        output: folder of all runs, absolute where it is local.
        command: command line to store with the results.
    """

    def __init__(self, config: Config, executor: Executor, output: str, command: str = "") -> None:
        self._config, self._executor = config, executor
        self._store = results.RunStore(output, config.run_id)
        self._store.lock()
        self._federation = Federation(config, executor)
        state = load_checkpoint(self._store, self._federation.state(), VARYING)
        if state is not None:
            self._federation.restore(state)
        self._next_stored = self._federation.next_round
        self._store.truncate(self._next_stored)
        previous = self._store.read_run()
        self._row: dict[str, Any] = {
            **run_row(config, previous["started_at"] if previous else datetime.now(timezone.utc)),
            "status": "running",
            "weights": self._federation.weights,
            "masked_parameters": self._federation.dimension,
            "version": version("deltamask"),
            "git_commit": git_commit(),
            "command": command,
            "machine": describe_machine(),
        }
        self._store.write_run(self._row)

    def stored_rounds(self) -> list[dict[str, Any]]:
        """Rows of the ``rounds`` table that an earlier attempt has stored."""
        rows: list[dict[str, Any]] = self._rounds().to_dict("records")
        return rows

    def step(self) -> dict[str, Any] | None:
        """Run and store the next round; return its row of the ``rounds`` table, or None when all are done."""
        if self._federation.done:
            return None
        outcome = self._federation.run_round()
        index = outcome.round["round"]
        run_id = {"run_id": self._config.run_id}
        self._store.append("clients", index, [run_id | row for row in outcome.clients])
        self._store.append("rounds", index, [run_id | outcome.round])
        save_checkpoint(self._store, self._federation.state())
        self._next_stored = index + 1
        return outcome.round

    def finish(self, status: str, error: str | None = None) -> dict[str, Any]:
        """End the run with a status of :data:`results.schema.STATUSES`; return its row of the ``runs`` table."""
        self._executor.close()
        self._store.truncate(self._next_stored)  # of a round in flight, some rows may have been written
        self._store.compact()
        rounds = self._rounds()
        row = self._row | {"status": status, "error": error, "finished_at": datetime.now(timezone.utc)}
        row["warnings"] = self._federation.warnings or row.get("warnings")
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
        self._store.unlock()
        return row

    def _rounds(self) -> Any:
        return results.load(self._store.location).rounds


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
