"""Links and devices of clients, by a named profile or a table that a user has, and the time that they take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deltamask import stream_key
from fedsim.errors import ConfigError
from fedsim.settings import WorldSettings
from fedsim.world._tables import read_table

_COLUMNS = ("uplink_mbps", "downlink_mbps", "latency_ms", "gflops")


@dataclass(frozen=True)
class Times:
    """Simulated seconds of a client in a round."""

    download: float
    compute: float
    upload: float

    @property
    def total(self) -> float:
        """Seconds from the start of the round to the arrival of the upload."""
        return self.download + self.compute + self.upload


@dataclass(frozen=True)
class Home:
    """The link and the device of a client.

    Attributes:
        uplink_mbps, downlink_mbps: rates, 10^6 bits a second.
        latency_ms: time of a round trip; each of the two transfers takes one.
        gflops: operations that the device computes, 10^9 a second.
    """

    uplink_mbps: float
    downlink_mbps: float
    latency_ms: float
    gflops: float

    def times(self, downlink_bytes: int, uplink_bytes: int, flops: float, measured: float | None = None) -> Times:
        """The time for the bytes that the client is sent, its operations, and the bytes that it sends.

        Args:
            downlink_bytes, uplink_bytes: lengths of the messages; a message of no bytes takes no time.
            flops: operations of its computation.
            measured: seconds of the computation to take in place of operations by the device's rate.
        """
        return Times(
            self._transfer(downlink_bytes, self.downlink_mbps),
            flops / (1e9 * self.gflops) if measured is None else measured,
            self._transfer(uplink_bytes, self.uplink_mbps),
        )

    def _transfer(self, size: int, mbps: float) -> float:
        return self.latency_ms / 1e3 + 8 * size / (1e6 * mbps) if size else 0.0


#: Links: WebPageTest's presets FIOS (20/5 Mbit/s, 4 ms), LTE (12/12, 70 ms) and Mobile 3G (1.6/0.768, 300 ms), and LTE
#: Cat-M1 in half duplex (3GPP release 13: 0.3/0.375 Mbit/s), with 100 ms. Devices: orders of magnitude of what is
#: sustained in float32 by a laptop, a phone of today, an older one, and a board without accelerator.
PROFILES = {
    "fiber": Home(5.0, 20.0, 4.0, 200.0),
    "lte": Home(12.0, 12.0, 70.0, 50.0),
    "3g": Home(0.768, 1.6, 300.0, 20.0),
    "iot": Home(0.375, 0.3, 100.0, 2.0),
}


class ClientWorld:
    """The home of each client; nothing is made for clients that nobody asks for.

    Args:
        settings: the ``world`` group, which is on.
        clients: registered clients.
        seed: of the experiment; with ``mixed`` it draws the profile of each client.

    Raises:
        ConfigError: the table cannot be read, lacks columns or clients, or has values that are not above 0.
    """

    def __init__(self, settings: WorldSettings, clients: int, seed: int) -> None:
        self._home: Callable[[int], Home]
        if settings.table is not None:
            table = _read(settings.table, clients)
            self._home = lambda client: Home(*(float(table[name][client]) for name in _COLUMNS))
        elif settings.profile == "mixed":
            names = list(PROFILES)
            self._home = lambda client: PROFILES[names[stream_key(seed, "world", client) % len(names)]]
        else:
            assert settings.profile is not None
            same = PROFILES[settings.profile]
            self._home = lambda client: same

    def home(self, client: int) -> Home:
        """A client's link and device."""
        return self._home(client)


def _read(path: str, clients: int) -> dict[str, np.ndarray]:
    columns = read_table("world.table", path, _COLUMNS)
    found = len(columns["gflops"])
    if found < clients:
        raise ConfigError(f"world.table: found {found} rows, allowed: one for each of {clients} clients")
    for name, values in columns.items():
        if (values < (0 if name == "latency_ms" else np.finfo(np.float64).tiny)).any():
            raise ConfigError(f"world.table: found a value of {name} that is not a finite one above 0")
    return columns
