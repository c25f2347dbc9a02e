"""Simulated time of rounds, where the world is on: columns of the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fedsim.config import Config
from fedsim.engine._phases import phases
from fedsim.engine._types import PhaseName
from fedsim.models import TaskModel
from fedsim.world import ClientWorld, Clock, Flops


class SimulatedTime:
    """The clock of an experiment.

    Args:
        config: the experiment.
        model: the backbone.
        cohort: clients of a round, which says who takes part for the first time.
    """

    def __init__(self, config: Config, model: TaskModel, cohort: Callable[[int], np.ndarray]) -> None:
        self._config, self._cohort = config, cohort
        self._clock = Clock(ClientWorld(config.world, config.partition.clients, config.seed))
        self._flops = Flops(model)
        self._phases = phases(config)
        self._seen: set[int] | None = None

    @property
    def seconds(self) -> float:
        """Simulated seconds since the start of round 0."""
        return self._clock.seconds

    @seconds.setter
    def seconds(self, value: float) -> None:
        self._clock.seconds = value

    def round(self, phase: PhaseName, round_index: int, clients: list[dict[str, Any]]) -> dict[str, float]:
        """Columns of the ``rounds`` table; rows of the ``clients`` table get theirs."""
        if self._seen is None:  # also after a restart
            self._seen = {client for earlier in range(round_index) for client in self._cohort(earlier).tolist()}
        kind, params = self._phases[phase]
        found = []
        for row in clients:
            client, samples = row["client"], row["samples"]
            passes = kind.passes(params, self._config, samples)
            times = self._clock.times(
                client,
                row["downlink_bytes"],
                row["payload_bytes"],
                flops=self._flops.client(samples, passes, client not in self._seen),
                measured=row["train_seconds"] if self._config.world.compute == "measured" else None,
            )
            self._seen.add(client)
            found.append(times)
            row["simulated_download_seconds"] = times.download
            row["simulated_compute_seconds"] = times.compute
            row["simulated_upload_seconds"] = times.upload
        return {"simulated_seconds": self._clock.advance(found), "simulated_clock": self._clock.seconds}
