"""The stem of networks that take pixels as they are."""

from __future__ import annotations

from torch import Tensor, nn


class Pixels(nn.Module):
    """Images themselves, float32 of shape ``(b, channels, h, w)``.

    Args:
        channels: 3, or 1 for the mean of the colours.
        flat: give vectors of shape ``(b, channels * h * w)``.
    """

    def __init__(self, channels: int, *, flat: bool = False) -> None:
        super().__init__()
        self.channels, self.flat = channels, flat

    def forward(self, images: Tensor) -> Tensor:
        pixels = images if self.channels == 3 else images.mean(1, keepdim=True)
        return pixels.flatten(1) if self.flat else pixels

    def extra_repr(self) -> str:
        """Arguments, as stems whose features differ are told apart by them."""
        return f"channels={self.channels}, flat={self.flat}"
