"""The server's side of the rounds: sample, broadcast, collect, aggregate, evaluate."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deltamask import stream_key
from fedsim.config import Config
from fedsim.data import load_dataset
from fedsim.engine._executors import Executor
from fedsim.engine._trainer import ClientResult, Prepared, Score, Stage, evaluation_chunks
from fedsim.errors import CheckpointError
from fedsim.methods import HEADS, METHODS
from fedsim.methods.base import Broadcast
from fedsim.models import build_model

#: Begins the names in :meth:`Federation.state` of what has no fixed form, such as what sampled clients remember.
VARYING = "varying."
_MEMORY, _STEPS = f"{VARYING}memory.", f"{VARYING}steps"

_EVALUATION_COLUMNS = {"expected": "accuracy_expected", "sampled": "accuracy_sampled"}


@dataclass(frozen=True)
class RoundOutcome:
    """Rows of the ``rounds`` and ``clients`` tables, without ``run_id``."""

    round: dict[str, Any]
    clients: list[dict[str, Any]]


class Federation:
    """Server state and the rounds that change it. Knows nothing of Ray or files.

    Round 0 fits the classifier head by the head's method; later rounds are the experiment's method.

    Args:
        config: the experiment.
        executor: computes the clients; it stays the caller's to close.
    """

    def __init__(self, config: Config, executor: Executor) -> None:
        self._config, self._executor = config, executor
        dataset = load_dataset(config.data)
        self._chunks = evaluation_chunks(len(dataset.test))
        self._model = build_model(config.model, len(dataset.classes))
        self._servers = {
            "head": HEADS.get(config.model.head).server(config, self._model),
            "method": METHODS.get(config.method.name).server(config, self._model),
        }
        self._memories: dict[int, np.ndarray] = {}  # of the method's clients, for those methods that need it
        self._broadcast: tuple[Stage, Broadcast] | None = None
        #: Bytes of the shortest message, by round from 1 on, to who has the state before it.
        self._steps: list[int] = []
        self._last_received: dict[int, int] = {}  # clients' last rounds of the method, where it matters
        self._prepared: Prepared | None = None
        self.next_round = 0

    @property
    def dimension(self) -> int:
        """Number of masked parameters d."""
        return self._model.dimension

    @property
    def weights(self) -> str:
        """Where the backbone's weights came from."""
        return self._model.backbone.weights

    @property
    def warnings(self) -> str | None:
        """What was put up with so far, such as images that cannot be decoded; None when there is nothing."""
        return "; ".join(self._prepared.warnings if self._prepared else ()) or None

    @property
    def done(self) -> bool:
        """Whether all rounds have been run."""
        return self.next_round > self._config.rounds

    def cohort(self, round_index: int) -> np.ndarray:
        """Clients of a round, ascending: a uniform sample without replacement."""
        clients, size = self._config.data.clients, self._config.cohort_size
        rng = np.random.Generator(np.random.Philox(key=stream_key(self._config.seed, "cohort", round_index)))
        return np.sort(rng.choice(clients, size, replace=False))

    def run_round(self) -> RoundOutcome:
        """Run the next round.

        Raises:
            PayloadError: an upload is corrupt.
        """
        started = time.perf_counter()
        prefix_images, prefix_seconds = 0, 0.0
        if self._prepared is None:
            self._prepared = self._executor.prepare()
            prefix_images, prefix_seconds = self._prepared.images, self._prepared.seconds
        index = self.next_round
        stage: Stage = "head" if index == 0 else "method"
        server = self._servers[stage]
        broadcast = self._current_broadcast(stage)
        cohort = self.cohort(index)
        rows: list[dict[str, Any]] = []
        flips: list[int] = []
        aggregate_seconds = 0.0
        downlinks = self._downlinks(index, cohort, broadcast)
        memories = {client: self._memories[client] for client in cohort.tolist() if client in self._memories}
        for result in _in_order(self._executor.train(stage, index, cohort.tolist(), broadcast, memories), cohort):
            upload = result.upload
            if upload.memory is not None:
                self._memories[result.client] = upload.memory
            absorbing = time.perf_counter()
            absorbed = server.absorb(index, result.client, result.samples, upload.payload)
            aggregate_seconds += time.perf_counter() - absorbing - absorbed.decode_seconds
            if absorbed.flips is not None:
                flips.append(absorbed.flips)
            rows.append(
                {
                    "round": index,
                    "client": result.client,
                    "samples": result.samples,
                    "payload_bytes": len(upload.payload),
                    "downlink_bytes": downlinks[result.client],
                    "uplink_bpp": 8 * len(upload.payload) / self.dimension,
                    "delta_size": upload.delta_size,
                    "sent_size": upload.sent_size,
                    "train_loss": upload.train_loss,
                    "train_seconds": upload.train_seconds,
                    "encode_seconds": upload.encode_seconds,
                    "decode_seconds": absorbed.decode_seconds,
                    "attempt": result.attempt,
                }
            )
        finishing = time.perf_counter()
        server.finish_round()
        self._advance(stage)
        aggregate_seconds += time.perf_counter() - finishing
        evaluating = time.perf_counter()
        evaluation = self._evaluate(stage, index)
        evaluated = time.perf_counter()
        uplink = sum(row["payload_bytes"] for row in rows)
        downlink = sum(row["downlink_bytes"] for row in rows)
        outcome = RoundOutcome(
            {
                "round": index,
                "participants": len(rows),
                "lost_clients": len(cohort) - len(rows),
                "retries": sum(row["attempt"] - 1 for row in rows),
                **evaluation,
                "uplink_bytes": uplink,
                "downlink_bytes": downlink,
                "uplink_bpp": 8 * uplink / len(rows) / self.dimension,
                "downlink_bpp": 8 * downlink / len(rows) / self.dimension,
                "flips": sum(flips) if flips else None,
                "false_flips": sum(flips) - sum(row["sent_size"] for row in rows) if flips else None,
                **server.metrics(),
                "prefix_images": prefix_images,
                "corrupt_images": self._prepared.corrupt,
                "prefix_seconds": prefix_seconds,
                "train_seconds": sum(row["train_seconds"] for row in rows),
                "encode_seconds": sum(row["encode_seconds"] for row in rows),
                "decode_seconds": sum(row["decode_seconds"] for row in rows),
                "aggregate_seconds": aggregate_seconds,
                "evaluate_seconds": evaluated - evaluating,
                "round_seconds": evaluated - started,
                "state_digest": server.digest(),
            },
            rows,
        )
        self.next_round += 1
        return outcome

    def state(self) -> dict[str, np.ndarray]:
        """Everything that a later process needs to go on after the last finished round."""
        state = {"next_round": np.array([self.next_round], np.int64)}
        for stage, server in self._servers.items():
            state |= {f"{stage}.{key}": array for key, array in server.state().items()}
        memories = {f"{_MEMORY}{client}": array for client, array in self._memories.items()}
        return state | memories | {_STEPS: np.array(self._steps, np.int64)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take back what :meth:`state` gave."""
        self.next_round = int(state["next_round"][0])
        if not 0 <= self.next_round <= self._config.rounds + 1:
            raise CheckpointError(
                f"checkpoint: expected next_round in 0 to {self._config.rounds + 1}, found {self.next_round}"
            )
        for stage, server in self._servers.items():
            prefix = f"{stage}."
            server.restore({key[len(prefix) :]: array for key, array in state.items() if key.startswith(prefix)})
        self._steps = state[_STEPS].tolist()
        self._last_received = {}
        memories = (key for key in state if key.startswith(_MEMORY))
        self._memories = {int(key.removeprefix(_MEMORY)): state[key] for key in memories}
        self._broadcast = None

    def _current_broadcast(self, stage: Stage) -> Broadcast:
        """The stage's broadcast; the one that was last evaluated is the one that is sent next."""
        if self._broadcast is None or self._broadcast[0] != stage:
            self._broadcast = (stage, Broadcast(self._servers[stage].broadcast()))
            if stage == "method" and not self._steps:
                self._steps.append(len(self._broadcast[1].full))
        return self._broadcast[1]

    def _advance(self, stage: Stage) -> None:
        """Replace the broadcast by that of the state after the round."""
        server = self._servers[stage]
        update = server.update()
        following = Broadcast(server.broadcast(), update, self._current_broadcast(stage).name)
        self._broadcast = (stage, following)
        if stage == "method":
            self._steps.append(len(following.full if update is None else update))

    def _downlinks(self, index: int, cohort: np.ndarray, broadcast: Broadcast) -> dict[int, int]:
        """Bytes that each client of a cohort gets: all updates since its last round, or the whole state if shorter."""
        if index == 0:
            return dict.fromkeys(cohort.tolist(), len(broadcast.full))
        if not self._last_received:  # also after a restart
            for earlier in range(1, index):
                self._last_received.update(dict.fromkeys(self.cohort(earlier).tolist(), earlier))
        sizes = {
            client: min(len(broadcast.full), sum(self._steps[self._last_received.get(client, 0) : index]))
            for client in cohort.tolist()
        }
        self._last_received.update(dict.fromkeys(sizes, index))
        return sizes

    def _evaluate(self, stage: Stage, index: int) -> dict[str, float]:
        scores = self._executor.evaluate(stage, index, self._chunks, self._current_broadcast(stage))
        columns: dict[str, float] = {}
        for name in scores[0]:
            total = _total([chunk[name] for chunk in scores])
            if name == "mean":
                columns["accuracy"], columns["loss"] = total.correct / total.samples, total.loss / total.samples
            else:
                columns[_EVALUATION_COLUMNS[name]] = total.correct / total.samples
        return columns


def _total(scores: list[Score]) -> Score:
    return Score(*(sum(values) for values in zip(*((s.samples, s.correct, s.loss) for s in scores), strict=True)))


def _in_order(results: Iterator[ClientResult], cohort: np.ndarray) -> Iterator[ClientResult]:
    """Results in client order; those that arrive early wait, as bytes."""
    waiting: dict[int, ClientResult] = {}
    expected = iter(cohort.tolist())
    following: int | None = next(expected)
    for result in results:
        waiting[result.client] = result
        while following in waiting:
            yield waiting.pop(following)
            following = next(expected, None)
    if following is not None:
        raise RuntimeError(f"executor: expected a result of client {following}, found none")
