"""Simulated time: of a client's download, computation and upload."""

from __future__ import annotations

from dataclasses import dataclass

from fedsim.world._clients import ClientWorld


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


class Clock:
    """Simulated times of clients.

    Args:
        world: their links and devices.
    """

    def __init__(self, world: ClientWorld) -> None:
        self._world = world

    def times(
        self, client: int, downlink_bytes: int, uplink_bytes: int, *, flops: float, measured: float | None = None
    ) -> Times:
        """The time of a client for the bytes that it is sent, its operations, and the bytes that it sends.

        Args:
            client: the client.
            downlink_bytes, uplink_bytes: lengths of the messages; a message of no bytes takes no time.
            flops: operations of its computation.
            measured: seconds of the computation to take in place of operations by the device's rate.
        """
        home = self._world.home(client)
        return Times(
            _transfer(downlink_bytes, home.downlink_mbps, home.latency_ms),
            flops / (1e9 * home.gflops) if measured is None else measured,
            _transfer(uplink_bytes, home.uplink_mbps, home.latency_ms),
        )


def _transfer(size: int, mbps: float, latency_ms: float) -> float:
    return latency_ms / 1e3 + 8 * size / (1e6 * mbps) if size else 0.0
