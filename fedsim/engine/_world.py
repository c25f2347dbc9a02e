"""The world's part in a round: which clients are asked, what becomes of each, and how long it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

import deltamask as dm
from fedsim.config import Config
from fedsim.engine._phases import phases
from fedsim.engine._types import PhaseName, Upload
from fedsim.errors import ConfigError
from fedsim.models import TaskModel
from fedsim.world import ClientWorld, Cohorts, Flops, Times, make_presence

_WAIT, _WAITS = 600.0, 1008  # seconds from one look at who is there to the next, and looks: a week


@dataclass(frozen=True)
class Report:
    """A client that was asked, and what became of it.

    Attributes:
        upload: what it sent; of a client that never began, an empty one.
        downlink_bytes: what it was sent.
        start: the round whose broadcast it had.
        times: its simulated times; None where time is not simulated, or it never began.
        heard: simulated seconds from its start until the server has its upload or knows that there will be none.
        sent: whether the upload arrived, be it in vain.
        lost: why it does not count; None where it does.
    """

    upload: Upload
    downlink_bytes: int
    start: int
    times: Times | None
    heard: float
    sent: bool = True
    lost: str | None = None

    @property
    def client(self) -> int:
        """The client."""
        return self.upload.client

    def columns(self) -> dict[str, float]:
        """Columns of the ``clients`` table."""
        if self.times is None:
            return {}
        return {
            "simulated_download_seconds": self.times.download,
            "simulated_compute_seconds": self.times.compute,
            "simulated_upload_seconds": self.times.upload,
        }


class World:
    """The simulated world of an experiment; without one, everybody is there and nothing takes time.

    Args:
        config: the experiment.
        model: the backbone.
        sizes: gives the clients' numbers of training samples, int64 of shape ``(clients,)``.

    Attributes:
        seconds: simulated, since the start of round 0.
    """

    def __init__(self, config: Config, model: TaskModel, sizes: Callable[[], np.ndarray]) -> None:
        self._config, self._settings = config, config.world
        clients, seed = config.partition.clients, config.seed
        weights = sizes().astype(np.float64) if self._settings.sampling == "samples" else None
        self._cohorts = Cohorts(seed, clients, weights)
        self._presence = make_presence(self._settings, clients, seed)
        self.seconds = 0.0
        self._homes: ClientWorld | None = None
        if self._settings.timed:
            self._homes, self._flops = ClientWorld(self._settings, clients, seed), Flops(model)
            self._phases = phases(config)

    def cohort(self, round_index: int, size: int, attempt: int = 0, besides: frozenset[int] = frozenset()) -> list[int]:
        """Clients of a round, ascending, of those who are there and not among others; time passes until there are some.

        Raises:
            ConfigError: for a week, fewer than ``min_clients`` are there.
        """
        there: Callable[[int], bool] | None = None
        if besides or self._settings.stays:
            there = lambda client: client not in besides and self._there(client)  # noqa: E731
        for _ in range(_WAITS):
            found = self._cohorts.draw(round_index, size, there, attempt)
            if besides or len(found) >= min(self._config.min_clients, size):
                return found
            self.seconds += _WAIT
        key = "availability" if self._settings.traces is None else "traces"
        raise ConfigError(
            f"world.{key}: found {len(found)} clients that are there for round {round_index} at most, in a week, "
            f"allowed: at least min_clients, {self._config.min_clients}"
        )

    def _there(self, client: int) -> bool:
        return self._presence.until(client, self.seconds) > self.seconds

    def drops_out(self, round_index: int, client: int, attempt: int = 0) -> Literal["before", "after"] | None:
        """Whether a client of a cohort drops out, before it gets the broadcast or after its training."""
        share, when = self._settings.dropout, self._settings.dropout_at
        if not share:
            return None
        drawn = dm.stream_key(self._config.seed, "dropout", round_index, attempt, client) / 2**64
        if drawn >= share:
            return None
        if when == "either":
            return "before" if drawn < share / 2 else "after"
        return when

    def absent(self, round_index: int, client: int) -> Report:
        """The report of a client that drops out before it gets the broadcast."""
        upload = Upload(client, 0, dm.Update(b""), None, 0.0, 0.0)
        return Report(upload, 0, round_index, None, 0.0, sent=False, lost="dropout: before the broadcast")

    def report(
        self, phase: PhaseName, round_index: int, upload: Upload, downlink_bytes: int, first: bool, attempt: int = 0
    ) -> Report:
        """Say what becomes of a client that has trained from now on; ``first``: and never before."""
        times = self._times(phase, upload, downlink_bytes, first)
        stay = self._presence.until(upload.client, self.seconds) - self.seconds
        total, trained = (times.total, times.download + times.compute) if times else (0.0, 0.0)
        # The first of these is what becomes of it: seconds, why it is lost, whether the upload arrives.
        ends: list[tuple[float, str | None, bool]] = [(total, None, True)]
        if self.drops_out(round_index, upload.client, attempt) == "after":
            ends.insert(0, (trained, "dropout: after training", False))
        ends.append((stay, f"left: after {stay:.1f} s of {total:.1f}", False))
        if phase == "method" and self._settings.deadline is not None:
            ends.append((self._settings.deadline, f"deadline: it took {total:.1f} s", True))
        heard, lost, sent = min(ends, key=lambda end: end[0])
        return Report(upload, downlink_bytes, round_index, times, heard, sent, lost)

    def _times(self, phase: PhaseName, upload: Upload, downlink_bytes: int, first: bool) -> Times | None:
        if self._homes is None:
            return None
        kind, params = self._phases[phase]
        passes = kind.passes(params, self._config, upload.samples)
        flops = self._flops.client(upload.samples, passes, self._config.data.prefix_passes(first))
        measured = upload.train_seconds if self._settings.compute == "measured" else None
        return self._homes.home(upload.client).times(downlink_bytes, len(upload.update.payload), flops, measured)

    def close(self, reports: Sequence[Report], wanted: int) -> list[Report]:
        """End a round: only the first that report are wanted, and time passes until the server need not wait on."""
        order = sorted((r for r in reports if r.lost is None), key=lambda report: (report.heard, report.client))
        surplus = {report.client for report in order[wanted:]}
        full = len(order) >= wanted and self._settings.over_selection > 1
        waiting = order[:wanted] if full else reports
        self.seconds += max((report.heard for report in waiting), default=0.0)
        note = f"surplus: {wanted} others had reported"
        return [replace(report, lost=note) if report.client in surplus else report for report in reports]

    def columns(self, since: float) -> dict[str, Any]:
        """Columns of the ``rounds`` table, of a round that began then."""
        if not self._settings.timed:
            return {}
        return {"simulated_seconds": self.seconds - since, "simulated_clock": self.seconds}


def staleness_weight(weight: int, rounds: int) -> int:
    """The weight of a client whose state was some rounds old, by ``1 / sqrt(1 + rounds)`` (FedBuff), in eighths."""
    return max(1, round(8 * weight / math.sqrt(1 + rounds)))
