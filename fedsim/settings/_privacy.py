"""The keys of differential privacy."""

from __future__ import annotations

from pydantic import Field, model_validator

from fedsim.settings._settings import Settings


class PrivacySettings(Settings):
    """Clipping and noise, off where neither ``clip`` nor ``client_clip`` is given; ``docs/privacy.md`` says of whom."""

    clip: float | None = Field(
        None, gt=0, le=1e6, description="largest L2 norm of one sample's gradient in a local step (DP-SGD)"
    )
    noise: float = Field(
        0.0, ge=0, le=1000, description="standard deviation of a step's noise, in units of clip; 0: clipping alone"
    )
    client_clip: float | None = Field(
        None, gt=0, le=1e5, description="largest L2 norm of one client's update; of masks, the root of its flips"
    )
    client_noise: float = Field(
        0.0, ge=0, le=100, description="standard deviation of the server's noise in units of client_clip; 0: none"
    )
    delta: float = Field(1e-5, gt=0, lt=1, description="probability at which epsilon is reported")

    @property
    def on(self) -> bool:
        """Whether anything is clipped."""
        return self.clip is not None or self.client_clip is not None

    @property
    def noisy(self) -> bool:
        """Whether there is an epsilon to count."""
        return bool(self.noise or self.client_noise)

    @model_validator(mode="after")
    def _noise_in_units_of_a_clip(self) -> PrivacySettings:
        for noise, clip in (("noise", "clip"), ("client_noise", "client_clip")):
            if getattr(self, noise) and getattr(self, clip) is None:
                raise ValueError(f"{noise}: found {getattr(self, noise)}, allowed: 0, as privacy.{clip} is not given")
        if "delta" in self.model_fields_set and self.delta != 1e-5 and not self.noisy:
            raise ValueError(f"delta: found {self.delta}, allowed: none, as neither noise nor client_noise is given")
        return self
