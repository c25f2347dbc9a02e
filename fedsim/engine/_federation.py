"""The server's side of the rounds: sample, broadcast, collect, aggregate, evaluate."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import deltamask as dm
from deltamask.uploads import pack_relay
from fedsim.config import Config
from fedsim.data import load_dataset
from fedsim.data.partition import make_partition
from fedsim.engine._buffer import Buffer
from fedsim.engine._calibration import best_temperature, temperatures, tempered
from fedsim.engine._downlink import Downlink
from fedsim.engine._evaluation import evaluation_pieces
from fedsim.engine._executors import Executor
from fedsim.engine._held_out import HeldOutSamples
from fedsim.engine._phases import make_model, make_servers
from fedsim.engine._privacy import PrivacyAccounting
from fedsim.engine._received import Received, decoded_ahead
from fedsim.engine._reports import Reports
from fedsim.engine._rows import (
    RoundOutcome,
    class_rows,
    client_row,
    evaluation_columns,
    fairness_columns,
    lost_row,
    totals,
)
from fedsim.engine._types import Broadcast, PhaseName, Prepared
from fedsim.engine._world import Report, World, staleness_weight
from fedsim.errors import CheckpointError, ClientError
from fedsim.heads import FittedHeadSettings

#: Begins the names in :meth:`Federation.state` of what has no fixed form, such as one entry a round.
VARYING = "varying."
_FORM = "form-2"  # sets states apart that hold something else
#: Bytes a parameter from which on a round's uploads are not relayed, as no state is longer than two floats of each.
_RELAYED = 8
_STEPS, _CLOCK, _RECEIVED, _ASKED, _BUFFER = (
    f"{VARYING}{name}" for name in ("steps", "clock", "received", "asked", "buffer.")
)
#: The rounds that clients last kept something of: int64 of shape ``(n, 2)``, clients and rounds.
KEPT = f"{VARYING}kept"


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
        self._classes = dataset.classes
        self.model = make_model(config, len(dataset.classes))
        self.servers = make_servers(config, self.model)
        self.downlink = Downlink()
        sizes = lambda: make_partition(dataset, config.partition, config.seed).sizes()  # noqa: E731
        self.world = World(config, self.model, sizes)
        self._reports = Reports(config, executor, self.world, self.downlink)
        self._buffer = Buffer(config, self._reports, self.world)
        self._kept: dict[int, int] = {}  # rounds that clients of the method last kept something of
        self._prepared: Prepared | None = None
        self.next_round = 0
        self._background = ThreadPoolExecutor(1, "digest")
        self._privacy: PrivacyAccounting | None = None
        if config.privacy.noisy:
            self._privacy = PrivacyAccounting(config, HeldOutSamples(config).left(sizes()))

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

    def run_round(self) -> RoundOutcome:
        """Run the next round.

        Raises:
            ClientError: a client failed or its upload is corrupt, and ``on_client_error`` is ``fail``; or fewer than
                ``min_clients`` are left.
        """
        started = time.perf_counter()
        preparation = self._prepare()
        phase: PhaseName = "head" if self.next_round == 0 else "method"
        server, began = self.servers[phase], self.world.seconds
        broadcast = self.downlink.current(phase, server)
        clients, flips, relay, collecting = self._collect(phase, broadcast)
        finishing = time.perf_counter()
        server.finish_round()
        following = self.downlink.advance(phase, server, relay)
        evaluating = time.perf_counter()
        due = self._config.evaluate.due(self.next_round, self._config.rounds)
        digesting = self._background.submit(server.digest) if phase == "method" else None
        evaluation, classes = self._evaluate(phase, following) if due else ({}, [])
        evaluated = time.perf_counter()
        # A head's comes after its evaluation, which gives it its temperature.
        digest = server.digest() if digesting is None else digesting.result()
        ended = time.perf_counter()
        row = {
            "round": self.next_round,
            **totals(clients, self.dimension, flips),
            **self.world.columns(began),
            **evaluation,
            **fairness_columns(clients),
            **server.metrics(),
            **(self._privacy.round(self.next_round, clients) if self._privacy is not None else {}),
            **preparation,
            "aggregate_seconds": collecting + evaluating - finishing + ended - evaluated,
            "evaluate_seconds": evaluated - evaluating,
            "round_seconds": ended - started,
            "state_digest": digest,
        }
        self.next_round += 1
        return RoundOutcome(row, clients, classes)

    def state(self) -> dict[str, np.ndarray]:
        """Everything that a later process needs to go on after the last finished round."""
        state = {"next_round": np.array([self.next_round], np.int64), _FORM: np.empty(0)}
        for phase, server in self.servers.items():
            state |= {f"{phase}.{key}": array for key, array in server.state().items()}
        asked = self._privacy.rounds_of if self._privacy is not None else {}
        for name, rounds in ((KEPT, self._kept), (_RECEIVED, self.downlink.received), (_ASKED, asked)):
            state[name] = np.array(sorted(rounds.items()), np.int64).reshape(-1, 2)
        state |= {_STEPS: np.array(self.downlink.steps, np.int64), _CLOCK: np.array([self.world.seconds])}
        return state | {f"{_BUFFER}{key}": array for key, array in self._buffer.state().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take back what :meth:`state` gave."""
        self.next_round = int(state["next_round"][0])
        if not 0 <= self.next_round <= self._config.rounds + 1:
            raise CheckpointError(
                f"checkpoint: expected next_round in 0 to {self._config.rounds + 1}, found {self.next_round}"
            )
        self._buffer.restore(_part(state, _BUFFER), self.servers["method"])
        for phase, server in self.servers.items():
            server.restore(_part(state, f"{phase}."))
        self.downlink.restore(state[_STEPS].tolist(), dict(state[_RECEIVED].tolist()))
        self._kept = dict(state[KEPT].tolist())
        if self._privacy is not None:
            self._privacy.rounds_of = Counter(dict(state[_ASKED].tolist()))
        self.world.seconds = float(state[_CLOCK][0])

    def _prepare(self) -> dict[str, Any]:
        """Have the prefix features computed before the first round; columns of the ``rounds`` table."""
        images, seconds = 0, 0.0
        if self._prepared is None:
            self._prepared = self._executor.prepare()
            images, seconds = self._prepared.images, self._prepared.seconds
        return {"prefix_images": images, "corrupt_images": self._prepared.corrupt, "prefix_seconds": seconds}

    def _evaluate(self, phase: PhaseName, broadcast: Broadcast) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Evaluate the state after the round, give a fitted head its temperature.

        Columns of the ``rounds`` table, and rows of ``classes``.
        """
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
        return evaluation_columns(test, validation), class_rows(test, self._classes)

    def _arriving(self, phase: PhaseName, broadcast: Broadcast) -> Iterator[tuple[Report, Received]]:
        """The reports that end the round, decoded, in client order."""
        server, index = self.servers[phase], self.next_round
        if phase == "method" and self._config.world.buffer is not None:
            return self._buffer.of_round(server, index, broadcast, self._kept)
        head, size = self._config.head, self._config.cohort_size
        if phase == "head" and isinstance(head, FittedHeadSettings) and head.participation is not None:
            size = max(1, round(head.participation * self._config.partition.clients))
        return decoded_ahead(server, index, self._reports.of_round(phase, index, size, broadcast, self._kept))

    def _collect(
        self, phase: PhaseName, broadcast: Broadcast
    ) -> tuple[list[dict[str, Any]], list[int], bytes | None, float]:
        """Have a cohort trained and accumulate its uploads: rows, flips, the relay and seconds of aggregation."""
        server, index = self.servers[phase], self.next_round
        rows: list[dict[str, Any]] = []
        flips: list[int] = []
        uploads: list[tuple[int, bytes]] = []
        size, seconds, accepted, known = 0, 0.0, 0, 0
        buffered = phase == "method" and self._config.world.buffer is not None
        relayed = server.replayable and not buffered
        for report, received in self._arriving(phase, broadcast):
            upload = report.upload
            sent = upload.update.payload
            accumulating = time.perf_counter()
            if received.error is not None:
                if report.lost is None and self._config.on_client_error == "fail":
                    reason, _, calls = received.error.partition("\n")
                    raise ClientError(f"client {upload.client} of round {index} failed: {reason}", calls)
                known += report.lost is not None
                rows.append(lost_row(index, report, received.error))
                continue
            weight = staleness_weight(received.weight, index - report.start) if buffered else received.weight
            server.accumulate(received.decoded, weight)
            accepted += 1
            seconds += time.perf_counter() - accumulating
            if upload.kept:
                self._kept[upload.client] = report.start
            if isinstance(received.decoded, dm.Decoded):
                flips.append(received.decoded.flips.size)
            size += len(sent)
            if relayed and size <= _RELAYED * self.dimension:
                uploads.append((upload.client, sent))
            else:
                uploads.clear()
            rows.append(client_row(index, report, self.dimension, received.seconds))
        if accepted < (least := min(self._config.min_clients, len(rows) - known)):
            raise ClientError(
                f"min_clients: found {accepted} of the {len(rows)} clients of round {index} that are not lost, "
                f"allowed: at least {least}; the first was lost by {_first_error(rows)}"
            )
        return rows, flips, pack_relay(index, uploads) if len(uploads) == accepted else None, seconds


def _part(state: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {key[len(prefix) :]: array for key, array in state.items() if key.startswith(prefix)}


def _first_error(rows: list[dict[str, Any]]) -> str:
    text: str = next(row["error"] for row in rows if "error" in row)
    return text.partition("\n")[0]
