"""The downlink: which message is broadcast next, and how many bytes of it each client gets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fedsim.engine._types import Broadcast, PhaseName
from fedsim.methods import MethodServer


class Downlink:
    """The current broadcast and the bytes that every client had to be sent so far.

    A client gets what each round since its last one changed (a delta, or that round's uploads to replay), or the whole
    state where that is shorter.

    """

    def __init__(self) -> None:
        self._current: tuple[PhaseName, Broadcast] | None = None
        #: Bytes to a client that has the version before, by round from 1 on.
        self.steps: list[int] = []
        #: The last round in which each client got a broadcast.
        self.received: dict[int, int] = {}

    def current(self, phase: PhaseName, server: MethodServer) -> Broadcast:
        """The phase's broadcast; the one that was last evaluated is the one that is sent next."""
        if self._current is None or self._current[0] != phase:
            self._current = (phase, Broadcast(server.broadcast()))
            if phase == "method" and not self.steps:
                self.steps.append(len(self._current[1].full))
        return self._current[1]

    def advance(self, phase: PhaseName, server: MethodServer, relay: bytes | None = None) -> Broadcast:
        """Replace the broadcast by that of the state after the round, whose uploads may be relayed."""
        following = Broadcast(server.broadcast(), server.delta(), self.current(phase, server).version)
        if relay is not None and len(relay) < len(following.step):
            following = replace(following, relay=relay)
        self._current = (phase, following)
        if phase == "method":
            self.steps.append(len(following.step))
        return following

    def sizes(self, round_index: int, cohort: Iterable[int], broadcast: Broadcast) -> dict[int, int]:
        """Bytes that each client gets, of those of a round's cohort that there are."""
        full = len(broadcast.full)
        sizes = {
            client: full if round_index == 0 else min(full, sum(self.steps[self.received.get(client, 0) : round_index]))
            for client in cohort
        }
        self.received.update(dict.fromkeys(sizes, round_index))
        return sizes

    def restore(self, steps: list[int], received: dict[int, int]) -> None:
        """Take back :attr:`steps` and :attr:`received` of an earlier process."""
        self.steps, self.received, self._current = steps, received, None
