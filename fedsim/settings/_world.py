"""The keys of the simulated world."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fedsim.settings._settings import Settings, by_content


class WorldSettings(Settings):
    """Simulated links and devices of the clients, off where neither profile nor table is given."""

    profile: Literal["fiber", "lte", "3g", "iot", "mixed"] | None = Field(
        None, description="link and device of every client; mixed draws one of the four for each"
    )
    table: str | None = Field(
        None,
        description="Parquet or CSV file with a row a client: uplink_mbps, downlink_mbps, latency_ms, gflops",
        json_schema_extra=by_content,
    )
    compute: Literal["flops", "measured"] = Field(
        "flops", description="time of computation: operations by the device's rate, or as measured on this machine"
    )

    @property
    def on(self) -> bool:
        """Whether time is simulated."""
        return self.profile is not None or self.table is not None

    @model_validator(mode="after")
    def _one_source(self) -> WorldSettings:
        if self.profile is not None and self.table is not None:
            raise ValueError(f"profile: found {self.profile!r}, allowed: none, since world.table is given")
        if not self.on and "compute" in self.model_fields_set and self.compute != "flops":
            raise ValueError(f"compute: found {self.compute!r}, allowed: none, as neither profile nor table is given")
        return self
