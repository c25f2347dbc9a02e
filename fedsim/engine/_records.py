"""Rows and checkpoints of a run, kept in step with each other, and proved whole at its end."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd

from fedsim.engine._checkpoint import checkpoints, load_checkpoint, save_checkpoint
from fedsim.engine._client_states import ClientStates
from fedsim.engine._federation import KEPT, VARYING
from fedsim.engine._rows import RoundOutcome
from fedsim.errors import CheckpointError
from fedsim.settings import ClusterSettings
from results import DamagedError, RunStore
from results.digests import round_digests
from results.schema import GROWING

_DIGESTS = f"{VARYING}digests"
_STORED_SECONDS = 1.0  # least time between two files of rows: rounds that are shorter share one
_JOINED = 64  # files from which on they are joined


class Records:
    """Rows of rounds and the checkpoints that go on from them.

    Args:
        store: the run; this process is its owner.
        output: folder of all runs.
        settings: how often checkpoints are due.

    Attributes:
        warnings: what was found damaged or missing, and how the run goes on.
    """

    def __init__(self, store: RunStore, output: str, settings: ClusterSettings) -> None:
        self._store, self._settings = store, settings
        self._states, self._kept = ClientStates(output, store.run_id), dict[int, int]()
        self._digests: list[int] = []  # of the stored rounds
        self._pending: list[RoundOutcome] = []  # rounds that are not stored yet
        self._stored_at = -math.inf
        self._files, self._joined = 0, 0  # files since the last joined one, and the round that they begin with
        self._saved = (0, time.monotonic())  # round and time of the last checkpoint
        self._background = ThreadPoolExecutor(1, "checkpoint")
        self._saving: Future[None] | None = None
        self.warnings: list[str] = []

    @property
    def next_round(self) -> int:
        """The round that is added next."""
        return len(self._digests) + len(self._pending)

    def resume(self, expected: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
        """The newest state whose rounds are all stored, or None where the run starts; drop what is stored beyond it.

        Args:
            expected: a state of the same experiment, for names, shapes and types.
        """
        _, found, damaged = self._stored(self._store)
        state = None
        for name in checkpoints(self._store):
            try:
                candidate = load_checkpoint(self._store, name, expected, VARYING)
                for client, kept_in in candidate[KEPT].tolist():
                    self._states.read(client, kept_in)
            except CheckpointError as error:
                damaged.append(str(error))
                continue
            digests = candidate.pop(_DIGESTS, np.empty(0, np.int64)).tolist()
            lost = [index for index, digest in enumerate(digests) if found.get(index) != digest]
            if not lost:
                state, self._digests = candidate, digests
                self._joined = self.next_round
                break
            damaged.append(f"{self._store.location}: rounds {_list(lost)} are missing or changed")
        if damaged:
            start = f"goes on after round {self.next_round - 1}" if self.next_round else "starts again"
            self.warnings = [*damaged, f"the run {start}"]
        self._store.truncate(self.next_round)
        self._saved = (self.next_round, time.monotonic())
        return state

    def continue_from(
        self, shorter: RunStore, output: str, expected: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Take over the rows and the last state of a finished run that this one begins like.

        Args:
            shorter: that run, which kept its last checkpoint.
            output: folder of all runs.
            expected: as for :meth:`resume`.

        Raises:
            CheckpointError: something of it is damaged, or the state of this run has another form.
        """
        _, found, damaged = self._stored(shorter)
        state = load_checkpoint(shorter, checkpoints(shorter)[0], expected, VARYING)
        digests = state.pop(_DIGESTS).tolist()
        if damaged or [found.get(index) for index in range(len(digests))] != digests:
            raise CheckpointError(f"{shorter.location}: its rows are damaged, or not those of its last checkpoint")
        states = ClientStates(output, shorter.run_id)
        for client, kept_in in state[KEPT].tolist():
            self._states.write(client, kept_in, states.read(client, kept_in))
        for table in GROWING:
            rows = shorter.rows(table)[0].to_pylist()
            for index, of_round in groupby(rows, key=itemgetter("round")):
                self._store.append(table, index, index, [row | {"run_id": self._store.run_id} for row in of_round])
        self._digests = digests
        self.warnings.append(f"rounds before {self.next_round} are those of {shorter.run_id}")
        return state

    def add(self, outcome: RoundOutcome) -> None:
        """Store the rows of the next round, at once or with those of the next ones, within a second or two of work."""
        self._pending.append(outcome)
        if time.monotonic() - self._stored_at >= _STORED_SECONDS:
            self._store_pending()

    def _store_pending(self) -> None:
        if not self._pending:
            return
        first, last, run_id = len(self._digests), self.next_round - 1, {"run_id": self._store.run_id}
        pending, self._pending = self._pending, []  # whatever ends this ends the run, which drops them
        rows: dict[str, list[dict[str, Any]]] = {
            "clients": [run_id | row for outcome in pending for row in outcome.clients],
            "rounds": [run_id | outcome.round for outcome in pending],
        }
        stored = {table: self._store.append(table, first, last, added).to_pandas() for table, added in rows.items()}
        for outcome in pending:
            if outcome.classes:  # after the last round
                self._store.append("classes", last, last, [run_id | row for row in outcome.classes])
        digests = round_digests(stored["rounds"], stored["clients"])
        self._digests += [digests[index] for index in range(first, last + 1)]
        self._stored_at = time.monotonic()
        self._files += 1
        if self._files == _JOINED:
            self._store.compact(self._joined)
            self._files, self._joined = 0, self.next_round

    def checkpoint_due(self) -> bool:
        """Whether a checkpoint is to be written now."""
        saved, at = self._saved
        if self._settings.checkpoint_rounds is not None:
            return self.next_round - saved >= self._settings.checkpoint_rounds
        return time.monotonic() - at >= self._settings.checkpoint_seconds

    def checkpoint(self, state: Mapping[str, np.ndarray]) -> None:
        """Write the state after the last stored round, unless that was done, while the next rounds run.

        What fails is raised when the next one is due, or at the end.
        """
        if self._saved[0] != self.next_round:
            self._store_pending()
            self.written()
            digests = {_DIGESTS: np.array(self._digests, np.int64)}
            copy = {name: array.copy() for name, array in {**state, **digests}.items()}
            self._saving = self._background.submit(self._save, self.next_round, copy, self._kept)
            self._kept = dict(state[KEPT].tolist())
            self._saved = (self.next_round, time.monotonic())

    def _save(self, next_round: int, state: Mapping[str, np.ndarray], kept: Mapping[int, int]) -> None:
        save_checkpoint(self._store, next_round, state)
        if kept:
            self._states.prune(kept)  # by the checkpoint before, which is kept too

    def written(self) -> None:
        """Wait for the checkpoint that is being written."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def close(self) -> tuple[pd.DataFrame, list[int]]:
        """Join the files, if they hold what was added.

        Returns:
            The rows of ``rounds``, and the rounds that are missing or changed.
        """
        self._store_pending()
        self.written()
        self._store.truncate(self.next_round)  # of a round in flight, some rows may have been written
        rounds, found, _ = self._stored(self._store)
        lost = [index for index, digest in enumerate(self._digests) if found.get(index) != digest]
        if not lost:
            self._store.compact()
        return rounds, lost

    def incomplete(self, lost: list[int]) -> DamagedError:
        """The error to raise where rounds that were stored are lost."""
        return DamagedError(
            f"{self._store.location}: rounds {_list(lost)} are missing or changed, though they were stored; the same "
            "command again computes them from the last checkpoint before them"
        )

    def finish(self, state: Mapping[str, np.ndarray]) -> None:
        """Remove the checkpoints of a run that has finished, and what its clients kept, unless one is to be kept."""
        if self._settings.keep_checkpoint:
            self.checkpoint(state)
            self.written()
            self._store.remove(checkpoints(self._store)[1:])
        else:
            self._states.clear()
            self._store.remove(checkpoints(self._store))

    @staticmethod
    def _stored(store: RunStore) -> tuple[pd.DataFrame, dict[int, int], list[str]]:
        """The rows of ``rounds`` that a run has stored, digests of its rounds, and what is damaged."""
        (rounds, damaged_rounds), (clients, damaged_clients) = (store.rows(table) for table in GROWING)
        frame = rounds.to_pandas()
        return frame, round_digests(frame, clients.to_pandas()), damaged_rounds + damaged_clients


def _list(rounds: list[int]) -> str:
    shown = ", ".join(map(str, rounds[:8]))
    return shown if len(rounds) <= 8 else f"{shown} and {len(rounds) - 8} more"
