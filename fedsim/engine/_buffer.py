"""Rounds without waiting: clients train from states of their own age, and the server moves on after some reports.

Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation" (AISTATS 2022). Here clients start where the
server moves, as many as have reported since, and weights are normalised within a buffer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

import deltamask as dm
from fedsim.config import Config
from fedsim.engine._received import Received, decoded_ahead
from fedsim.engine._reports import Reports
from fedsim.engine._types import Broadcast, HeldOut, Upload
from fedsim.engine._world import Report, World
from fedsim.errors import ClientError
from fedsim.methods import MethodServer
from fedsim.world import Times

_STARTS = 1000  # of clients for a buffer that does not fill


@dataclass(frozen=True)
class _Flight:
    """A client on its way: its report, decoded by the state that it started from, and when the server hears of it."""

    arrives: float
    report: Report
    received: Received

    @property
    def order(self) -> tuple[float, int]:
        return self.arrives, self.report.client


class Buffer:
    """Clients on their way from rounds before.

    Args:
        config: the experiment.
        reports: has clients trained.
        world: has the clock.
    """

    def __init__(self, config: Config, reports: Reports, world: World) -> None:
        self._config, self._reports, self._world = config, reports, world
        self._flights: list[_Flight] = []
        self._states: dict[int, dict[str, np.ndarray]] = {}  # that those clients started from, by round

    def of_round(
        self, server: MethodServer[Any], index: int, broadcast: Broadcast, kept: dict[int, int]
    ) -> Iterator[tuple[Report, Received]]:
        """Start clients from now on, and let time pass until the buffer is full: its reports, and those of lost ones.

        Raises:
            ClientError: too few report, however many start.
        """
        size = self._config.world.buffer or 1
        heard: list[_Flight] = []
        counted = 0
        self._states[index] = {name: array.copy() for name, array in server.state().items()}
        for attempt in range(_STARTS):
            self._start(server, index, broadcast, kept, attempt)
            while self._flights and counted < size:
                heard.append(self._flights.pop(0))
                counted += heard[-1].report.lost is None
                self._world.seconds = heard[-1].arrives
            if counted == size:
                break
        else:
            raise ClientError(f"world.buffer: {size} did not report of {_STARTS} starts of clients in round {index}")
        flying = {flight.report.start for flight in self._flights}
        self._states = {start: state for start, state in self._states.items() if start in flying}
        yield from ((flight.report, flight.received) for flight in sorted(heard, key=lambda f: f.report.client))

    def _start(
        self, server: MethodServer[Any], index: int, broadcast: Broadcast, kept: dict[int, int], attempt: int
    ) -> None:
        """Have as many clients start as are not on their way."""
        flying = frozenset(flight.report.client for flight in self._flights)
        free = self._config.cohort_size - len(flying)
        cohort = self._world.cohort(index, free, attempt, flying) if free else []
        reports = self._reports.ask("method", index, cohort, broadcast, kept, attempt)
        for report, received in decoded_ahead(server, index, reports):
            self._flights.append(_Flight(self._world.seconds + report.heard, report, received))
        self._flights.sort(key=lambda flight: flight.order)

    def state(self) -> dict[str, np.ndarray]:
        """All that must survive a crash between two rounds, empty where nobody is on the way."""
        state = {f"{start}.{name}": array for start, known in self._states.items() for name, array in known.items()}
        for number, flight in enumerate(self._flights):
            report = replace(flight.report, upload=flight.report.upload.without_payload())
            fields = {"arrives": flight.arrives, **asdict(report)}
            del fields["upload"]["update"]["payload"]
            payload = flight.report.upload.update.payload
            state[f"{number}/fields"] = np.frombuffer(json.dumps(fields).encode(), np.uint8)
            state[f"{number}/payload"] = np.frombuffer(bytes(payload), np.uint8)
        return state

    def restore(self, state: Mapping[str, np.ndarray], server: MethodServer[Any]) -> None:
        """Take back what :meth:`state` gave; the server decodes again, and is left in some state that it had."""
        self._states, reports = {}, []
        for name, array in state.items():
            number, dot, key = name.partition(".")
            if dot:
                self._states.setdefault(int(number), {})[key] = array
            elif name.endswith("/fields"):
                number, fields = name.partition("/")[0], json.loads(array.tobytes())
                reports.append((fields.pop("arrives"), _report(fields, state[f"{number}/payload"].tobytes())))
        self._flights = []
        for start, known in self._states.items():
            server.restore(known)
            started = [(arrives, report) for arrives, report in reports if report.start == start]
            decoded = decoded_ahead(server, start, iter(report for _, report in started))
            self._flights += [_Flight(at, *pair) for (at, _), pair in zip(started, decoded, strict=True)]
        self._flights.sort(key=lambda flight: flight.order)


def _report(fields: dict[str, Any], payload: bytes) -> Report:
    update = dm.Update(**{**fields["upload"].pop("update"), "payload": payload})
    held_out = HeldOut(**found) if (found := fields["upload"].pop("held_out", None)) else None
    upload = Upload(**{**fields["upload"], "update": update, "held_out": held_out})
    times = Times(**fields["times"]) if fields["times"] else None
    return Report(**{**fields, "upload": upload, "times": times})
