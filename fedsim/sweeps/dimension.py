"""The values of one key of a sweep: a grid, or a range that a search looks through."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from fedsim.settings import Settings

_KINDS = ("grid", "choice", "uniform", "loguniform", "integer")


class Dimension(Settings):
    """The values of one configuration key; exactly one of the kinds."""

    grid: list[Any] | None = Field(None, min_length=1, description="every value is run, with all of all other grids")
    choice: list[Any] | None = Field(None, min_length=1, description="searched: one of these values")
    uniform: tuple[float, float] | None = Field(None, description="searched: a number from low to high")
    loguniform: tuple[float, float] | None = Field(None, description="searched: the same, evenly in its logarithm")
    integer: tuple[int, int] | None = Field(None, alias="int", description="searched: a whole number from low to high")
    when: dict[str, Any] = Field(
        default_factory=dict, description="only where other keys have these values (one, or any of a list)"
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Dimension:
        found = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(found) != 1:
            names = " and ".join(found).replace("integer", "int") or "none"
            raise ValueError(f"found {names}, allowed: one of grid, choice, uniform, loguniform, int")
        return self

    @field_validator("uniform", "loguniform", "integer")
    @classmethod
    def _ascending(cls, value: Any) -> Any:
        if value is not None and not value[0] < value[1]:
            raise ValueError(f"found {list(value)}, allowed: [low, high] with low below high")
        return value

    @field_validator("loguniform")
    @classmethod
    def _positive(cls, value: Any) -> Any:
        if value is not None and value[0] <= 0:
            raise ValueError(f"found {list(value)}, allowed: numbers above 0")
        return value

    def searched(self) -> dict[str, Any]:
        """The kind of the dimension and its values: ``{"loguniform": [0.01, 0.3]}``."""
        return self.model_dump(mode="json", include=set(_KINDS), exclude_none=True, by_alias=True)

    def values(self) -> list[Any]:
        """The values of a grid or a choice, the bounds of a range."""
        return [value for kind in _KINDS for value in getattr(self, kind) or ()]
