"""The keys of the simulated world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from fedsim.settings._member import Members
from fedsim.settings._settings import Settings, by_content

#: Keys that need simulated time.
_TIMED = ("compute", "availability", "traces", "deadline", "over_selection", "buffer")


class WorldSettings(Settings):
    """Links, devices and habits of the clients; time is simulated where a profile or a table is given."""

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
    availability: float | None = Field(
        None, gt=0, le=1, description="share of each simulated day that a client is there, from an hour of its own on"
    )
    traces: str | None = Field(
        None,
        description="Parquet or CSV file of stays: client, start, end in seconds; it starts again after the last end",
        json_schema_extra=by_content,
    )
    sampling: Literal["uniform", "samples"] = Field(
        "uniform", description="how cohorts are drawn of those who are there: uniformly, or by their training samples"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the cohort that is lost in each round, by seed")
    dropout_at: Literal["before", "after", "either"] = Field(
        "either", description="when they are lost: before they get the broadcast, after training, or half of each"
    )
    deadline: float | None = Field(
        None, gt=0, description="simulated seconds from the start of a round after which an upload does not count"
    )
    over_selection: float = Field(
        1.0, ge=1, le=100, description="clients that are asked for each one that counts; the first to report do"
    )
    buffer: int | None = Field(
        None, ge=1, description="rounds without waiting: the server moves on after so many of the cohort's reports"
    )
    hostile: float = Field(0.0, ge=0, lt=1, description="share of the clients that are hostile, by seed")
    attack: Literal["damaged", "sign-flip", "random"] = Field(
        "sign-flip", description="their uploads: damaged bytes, the opposite of what they learned, or noise as large"
    )
    attack_scale: float = Field(1.0, gt=0, le=1e6, description="size of what they send, times what they learned")

    only_with: ClassVar[Mapping[str, tuple[str, tuple[Any, ...]]]] = {"over_selection": ("buffer", (None,))}

    @property
    def timed(self) -> bool:
        """Whether time is simulated."""
        return self.profile is not None or self.table is not None

    @property
    def loses_clients(self) -> bool:
        """Whether clients that are asked may not count."""
        return self.stays or self.deadline is not None or self.dropout > 0 or self.over_selection > 1

    @property
    def stays(self) -> bool:
        """Whether clients come and go."""
        return self.availability is not None or self.traces is not None

    @property
    def learned_attack(self) -> str | None:
        """The attack on what hostile clients learned; None where there are none or they damage bytes."""
        return self.attack if self.hostile and self.attack != "damaged" else None

    def check(self, cohort_size: int, on_client_error: str, methods: Members, method: str) -> None:
        """Look at the group beside other keys and the chosen one of the methods.

        Raises:
            ValueError: a value does not go with them.
        """
        if self.buffer is not None and self.buffer > cohort_size:
            raise ValueError(f"world.buffer: found {self.buffer}, allowed: at most the cohort, {cohort_size}")
        if self.hostile and self.attack == "damaged" and on_client_error == "fail":
            raise ValueError("world.attack: found 'damaged', allowed: others, unless on_client_error is drop")
        for key, value, able in (
            ("buffer", self.buffer, lambda other: other.Server.counts_late),
            ("attack", self.learned_attack, lambda other: other.Client.can_attack()),
        ):
            if value is not None and not able(methods.get(method)):
                names = ", ".join(other.name for other in methods if able(other))
                raise ValueError(f"world.{key}: found {value!r}, allowed: others, or a method of: {names}")

    def check_uniform(self, group: str) -> None:
        """Refuse what draws cohorts other than uniformly, or has several aggregates of one draw, for some group.

        Raises:
            ValueError: names the key.
        """
        for key, value in self._given("availability", "traces", "sampling", "over_selection", "buffer"):
            raise ValueError(f"world.{key}: found {value!r}, allowed: none, as {group} counts uniform cohorts")

    @model_validator(mode="after")
    def _one_source_of_each(self) -> WorldSettings:
        if self.profile is not None and self.table is not None:
            raise ValueError(f"profile: found {self.profile!r}, allowed: none, since world.table is given")
        if self.availability is not None and self.traces is not None:
            raise ValueError(f"availability: found {self.availability}, allowed: none, since world.traces is given")
        for key, value in self._given(*_TIMED):
            if not self.timed:
                raise ValueError(f"{key}: found {value!r}, allowed: none, as neither profile nor table is given")
        for share, keys in (("dropout", ("dropout_at",)), ("hostile", ("attack", "attack_scale"))):
            for key, value in self._given(*keys):
                if not getattr(self, share):
                    raise ValueError(f"{key}: found {value!r}, allowed: none, as world.{share} is 0")
        return self

    def _given(self, *keys: str) -> list[tuple[str, Any]]:
        """Keys that do not have their defaults, of some, with their values."""
        values = [(key, getattr(self, key)) for key in keys]
        return [(key, value) for key, value in values if value != type(self).model_fields[key].default]
