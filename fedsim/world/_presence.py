"""When clients are there: for a part of each day, or by a table of stays."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np

from deltamask import stream_key
from fedsim.errors import ConfigError
from fedsim.settings import WorldSettings
from fedsim.world._tables import read_table

_DAY = 86_400.0


class Presence(ABC):
    """The stays of clients; nothing is made for clients that nobody asks for."""

    @abstractmethod
    def until(self, client: int, seconds: float) -> float:
        """The simulated second at which a client leaves that is there now; ``seconds`` itself where it is away."""


class Always(Presence):
    """Clients that never leave."""

    def until(self, client: int, seconds: float) -> float:
        return math.inf


class Daily(Presence):
    """Clients that come once a day, each at an hour of its own.

    Args:
        share: of the day that each is there.
        seed: of the experiment, which draws the hours.
    """

    def __init__(self, share: float, seed: int) -> None:
        self._share, self._seed = share, seed

    def until(self, client: int, seconds: float) -> float:
        if self._share == 1:
            return math.inf
        hour = stream_key(self._seed, "presence", client) / 2**64 * _DAY
        since = (seconds - hour) % _DAY
        return seconds + max(0.0, self._share * _DAY - since)


class Traces(Presence):
    """Clients that come and go by a table of stays, which repeats after its last end.

    Args:
        path: of a Parquet or CSV file with the columns ``client``, ``start`` and ``end``, in seconds.
        clients: registered clients.

    Raises:
        ConfigError: the table cannot be read, or has other columns, clients or times.
    """

    def __init__(self, path: str, clients: int) -> None:
        table = read_table("world.traces", path, ("client", "start", "end"))
        order = np.lexsort((table["start"], table["client"]))
        self._clients, self._starts, self._ends = (table[name][order] for name in ("client", "start", "end"))
        if not len(order) or self._clients[0] < 0 or self._clients[-1] >= clients:
            raise ConfigError(f"world.traces: found other clients, or none, allowed: 0 to {clients - 1}")
        same = self._clients[1:] == self._clients[:-1]
        overlap = same & (self._starts[1:] < self._ends[:-1])
        if (self._starts < 0).any() or (self._ends <= self._starts).any() or overlap.any():
            raise ConfigError(
                "world.traces: found a stay that ends before it starts or overlaps another, "
                "allowed: 0 <= start < end, one after the other"
            )
        self._period = float(self._ends.max())

    def until(self, client: int, seconds: float) -> float:
        first, last = np.searchsorted(self._clients, (client, client + 1))
        now = seconds % self._period
        stay = first + int(np.searchsorted(self._starts[first:last], now, side="right")) - 1
        return seconds + max(0.0, float(self._ends[stay]) - now) if stay >= first else seconds


def make_presence(settings: WorldSettings, clients: int, seed: int) -> Presence:
    """The stays of an experiment's clients."""
    if settings.traces is not None:
        return Traces(settings.traces, clients)
    return Always() if settings.availability is None else Daily(settings.availability, seed)
