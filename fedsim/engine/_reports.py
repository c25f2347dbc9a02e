"""The reports of a round whose server waits for its cohort: streamed, or held back until it is known which count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fedsim.config import Config
from fedsim.engine._downlink import Downlink
from fedsim.engine._executors import Executor
from fedsim.engine._received import in_order
from fedsim.engine._types import Broadcast, PhaseName
from fedsim.engine._world import Report, World
from fedsim.errors import ClientError

_ATTEMPTS = 100  # at a round for which too few report


class Reports:
    """The reports of a cohort.

    Args:
        config: the experiment.
        executor: computes the clients.
        world: says which are asked, and what becomes of them.
        downlink: says what they are sent.
    """

    def __init__(self, config: Config, executor: Executor, world: World, downlink: Downlink) -> None:
        self._config, self._executor, self._world, self._downlink = config, executor, world, downlink

    def of_round(
        self, phase: PhaseName, index: int, wanted: int, broadcast: Broadcast, kept: dict[int, int]
    ) -> Iterator[Report]:
        """Reports in client order. A round for which fewer than ``min_clients`` report is tried again, later.

        Raises:
            ClientError: it was tried often.
        """
        settings = self._config.world
        asked = round(wanted * settings.over_selection) if phase == "method" else wanted
        for attempt in range(_ATTEMPTS):
            cohort = self._world.cohort(index, asked, attempt)
            least = min(self._config.min_clients, len(cohort))
            reports = self.ask(phase, index, cohort, broadcast, kept, attempt)
            if not settings.loses_clients:
                heard = 0.0
                for report in reports:
                    heard = max(heard, report.heard)
                    yield report
                self._world.seconds += heard
                return
            closed = self._world.close(list(reports), wanted)
            counted = sum(report.lost is None for report in closed)
            if counted >= least:
                yield from closed
                return
            note = f"too few: {counted} of {len(closed)} reported, and the round was tried again"
            yield from (replace(report, lost=report.lost or note) for report in closed)
        raise ClientError(f"min_clients: {least} did not report in {_ATTEMPTS} attempts at round {index}")

    def ask(
        self,
        phase: PhaseName,
        index: int,
        cohort: list[int],
        broadcast: Broadcast,
        kept: dict[int, int],
        attempt: int = 0,
    ) -> Iterator[Report]:
        """Have clients trained; their reports in client order, as they become known."""
        world = self._world
        absent = {client for client in cohort if world.drops_out(index, client, attempt) == "before"}
        members = [client for client in cohort if client not in absent]
        new = {client for client in members if client not in self._downlink.received}
        sizes = self._downlink.sizes(index, members, broadcast)
        states = {client: kept[client] for client in members if client in kept}
        arriving = self._executor.train(phase, index, members, broadcast, states) if members else iter(())
        uploads = in_order(arriving, members)
        for client in cohort:
            if client in absent:
                yield world.absent(index, client)
            else:
                yield world.report(phase, index, next(uploads), sizes[client], client in new, attempt)
        if members:
            next(uploads, None)  # the end of what the executor does
