"""The server's side of the rounds: sample, broadcast, collect, aggregate, evaluate."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import deltamask as dm
from fedsim.config import Config
from fedsim.data import load_dataset
from fedsim.data.partition import make_partition
from fedsim.engine._calibration import best_temperature, temperatures, tempered
from fedsim.engine._downlink import Downlink
from fedsim.engine._executors import Executor
from fedsim.engine._phases import make_model, make_servers
from fedsim.engine._privacy import PrivacyAccounting
from fedsim.engine._received import decoded_ahead, in_order
from fedsim.engine._rows import client_row, evaluation_columns, lost_row, totals
from fedsim.engine._time import SimulatedTime
from fedsim.engine._trainer import evaluation_pieces
from fedsim.engine._types import Broadcast, PhaseName, Prepared
from fedsim.errors import CheckpointError, ClientError
from fedsim.heads import FittedHeadSettings
from fedsim.methods.wire import pack_relay

#: Begins the names in :meth:`Federation.state` of what has no fixed form, such as one entry a round.
VARYING = "varying."
#: Bytes a parameter from which on a round's uploads are not relayed, as no state is longer than two floats of each.
_RELAYED = 8
_STEPS, _CLOCK = f"{VARYING}steps", f"{VARYING}clock"
#: The rounds that clients last kept something of: int64 of shape ``(n, 2)``, clients and rounds.
KEPT = f"{VARYING}kept"


@dataclass(frozen=True)
class RoundOutcome:
    """Rows of the ``rounds`` and ``clients`` tables, without ``run_id``."""

    round: dict[str, Any]
    clients: list[dict[str, Any]]


class Federation:
    """Server state and the rounds that change it. Knows nothing of Ray or files.

    Round 0 fits the classifier head; later rounds are the experiment's method.

    Args:
        config: the experiment.
        executor: computes the clients; it stays the caller's to close.
    """

    def __init__(self, config: Config, executor: Executor) -> None:
        self._config, self._executor = config, executor
        dataset = load_dataset(config.data, config.seed)
        self._pieces = [piece.split for piece in evaluation_pieces(dataset, config.evaluate.batch_size)]
        self.model = make_model(config, len(dataset.classes))
        self.servers = make_servers(config, self.model)
        self.downlink = Downlink(self.cohort)
        self._kept: dict[int, int] = {}  # rounds that clients of the method last kept something of
        self._prepared: Prepared | None = None
        self.next_round = 0
        self._time = SimulatedTime(config, self.model, self.cohort) if config.world.on else None
        self._privacy: PrivacyAccounting | None = None
        if config.privacy.noisy:
            samples = make_partition(dataset, config.partition, config.seed).sizes()
            self._privacy = PrivacyAccounting(config, samples, self.cohort)

    @property
    def dimension(self) -> int:
        """Number of masked parameters d."""
        return self.model.dimension

    @property
    def weights(self) -> str:
        """The source of the backbone's weights."""
        return self.model.backbone.weights

    @property
    def warnings(self) -> str | None:
        """Faults that were tolerated so far, such as images that cannot be decoded; None when there were none."""
        found = list(self._prepared.warnings if self._prepared else ())
        if self._privacy is not None and self._privacy.warning is not None:
            found.append(self._privacy.warning)
        return "; ".join(found) or None

    @property
    def done(self) -> bool:
        """Whether all rounds have been run."""
        return self.next_round > self._config.rounds

    def cohort(self, round_index: int) -> np.ndarray:
        """Clients of a round, ascending: a uniform sample without replacement."""
        clients, size = self._config.partition.clients, self._config.cohort_size
        head = self._config.head
        if round_index == 0 and isinstance(head, FittedHeadSettings) and head.participation is not None:
            size = max(1, round(head.participation * clients))
        rng = np.random.Generator(np.random.Philox(key=dm.stream_key(self._config.seed, "cohort", round_index)))
        return np.sort(rng.choice(clients, size, replace=False))

    def run_round(self) -> RoundOutcome:
        """Run the next round.

        Raises:
            ClientError: a client failed or its upload is corrupt, and ``on_client_error`` is ``fail``; or fewer than
                ``min_clients`` are left.
        """
        started = time.perf_counter()
        preparation = self._prepare()
        phase: PhaseName = "head" if self.next_round == 0 else "method"
        server, cohort = self.servers[phase], self.cohort(self.next_round)
        broadcast = self.downlink.current(phase, server)
        clients, flips, relay, collecting = self._collect(phase, cohort, broadcast)
        finishing = time.perf_counter()
        server.finish_round()
        following = self.downlink.advance(phase, server, relay)
        evaluating = time.perf_counter()
        due = self._config.evaluate.due(self.next_round, self._config.rounds)
        evaluation = self._evaluate(phase, following) if due else {}
        evaluated = time.perf_counter()
        digest = server.digest()  # after the evaluation, which gives a head its temperature
        ended = time.perf_counter()
        row = {
            "round": self.next_round,
            **totals(clients, len(cohort), self.dimension, flips),
            **(self._time.round(phase, self.next_round, clients) if self._time is not None else {}),
            **evaluation,
            **server.metrics(),
            **(self._privacy.round(self.next_round) if self._privacy is not None else {}),
            **preparation,
            "aggregate_seconds": collecting + evaluating - finishing + ended - evaluated,
            "evaluate_seconds": evaluated - evaluating,
            "round_seconds": ended - started,
            "state_digest": digest,
        }
        self.next_round += 1
        return RoundOutcome(row, clients)

    def state(self) -> dict[str, np.ndarray]:
        """Everything that a later process needs to go on after the last finished round."""
        state = {"next_round": np.array([self.next_round], np.int64)}
        for phase, server in self.servers.items():
            state |= {f"{phase}.{key}": array for key, array in server.state().items()}
        kept = np.array(sorted(self._kept.items()), np.int64).reshape(-1, 2)
        if self._time is not None:
            state[_CLOCK] = np.array([self._time.seconds])
        return state | {KEPT: kept, _STEPS: np.array(self.downlink.steps, np.int64)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take back what :meth:`state` gave."""
        self.next_round = int(state["next_round"][0])
        if not 0 <= self.next_round <= self._config.rounds + 1:
            raise CheckpointError(
                f"checkpoint: expected next_round in 0 to {self._config.rounds + 1}, found {self.next_round}"
            )
        for phase, server in self.servers.items():
            prefix = f"{phase}."
            server.restore({key[len(prefix) :]: array for key, array in state.items() if key.startswith(prefix)})
        self.downlink.restore(state[_STEPS].tolist())
        self._kept = dict(state[KEPT].tolist())
        if self._time is not None:
            self._time.seconds = float(state[_CLOCK][0])

    def _prepare(self) -> dict[str, Any]:
        """Have the prefix features computed before the first round; columns of the ``rounds`` table."""
        images, seconds = 0, 0.0
        if self._prepared is None:
            self._prepared = self._executor.prepare()
            images, seconds = self._prepared.images, self._prepared.seconds
        return {"prefix_images": images, "corrupt_images": self._prepared.corrupt, "prefix_seconds": seconds}

    def _evaluate(self, phase: PhaseName, broadcast: Broadcast) -> dict[str, float]:
        """Evaluate the state after the round, give a fitted head its temperature: columns of the ``rounds`` table."""
        sums = self._executor.evaluate(phase, self.next_round, len(self._pieces), broadcast)
        test, validation = (
            [piece for piece, split in zip(sums, self._pieces, strict=True) if split == wanted]
            for wanted in ("test", "validation")
        )
        head = self._config.head
        if phase == "head" and isinstance(head, FittedHeadSettings):
            chosen = best_temperature(head, validation)
            self.model.temper_head(temperatures(head)[chosen])
            test, validation = tempered(test, chosen), tempered(validation, chosen)
        return evaluation_columns(test, validation)

    def _collect(
        self, phase: PhaseName, cohort: np.ndarray, broadcast: Broadcast
    ) -> tuple[list[dict[str, Any]], list[int], bytes | None, float]:
        """Have a cohort trained and accumulate its uploads: rows, flips, the relay and seconds of aggregation."""
        server, index, members = self.servers[phase], self.next_round, cohort.tolist()
        downlinks = self.downlink.sizes(index, members, broadcast)
        kept = {client: self._kept[client] for client in members if client in self._kept}
        rows: list[dict[str, Any]] = []
        flips: list[int] = []
        uploads: list[tuple[int, bytes]] = []
        size, seconds = 0, 0.0
        accepted = 0
        arriving = self._executor.train(phase, index, members, broadcast, kept)
        for upload, received in decoded_ahead(server, index, in_order(arriving, members)):
            sent, downlink = upload.update.payload, downlinks[upload.client]
            accumulating = time.perf_counter()
            if received.error is not None:
                if self._config.on_client_error == "fail":
                    reason, _, calls = received.error.partition("\n")
                    raise ClientError(f"client {upload.client} of round {index} failed: {reason}", calls)
                rows.append(lost_row(index, upload, downlink, received.error))
                continue
            server.accumulate(received.decoded, received.weight)
            accepted += 1
            seconds += time.perf_counter() - accumulating
            if upload.kept:
                self._kept[upload.client] = index
            if isinstance(received.decoded, dm.Decoded):
                flips.append(received.decoded.flips.size)
            size += len(sent)
            if server.replayable and size <= _RELAYED * self.dimension:
                uploads.append((upload.client, sent))
            else:
                uploads.clear()
            rows.append(client_row(index, upload, self.dimension, downlink, received.seconds))
        if accepted < min(self._config.min_clients, len(members)):
            raise ClientError(
                f"min_clients: found {accepted} of the {len(members)} clients of round {index} that are not lost, "
                f"allowed: at least {self._config.min_clients}; the first was lost by {_first_error(rows)}"
            )
        return rows, flips, pack_relay(index, uploads) if len(uploads) == accepted else None, seconds


def _first_error(rows: list[dict[str, Any]]) -> str:
    text: str = next(row["error"] for row in rows if "error" in row)
    return text.partition("\n")[0]
