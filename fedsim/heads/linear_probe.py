"""One federated round of linear probing."""

from __future__ import annotations

from pydantic import Field

from fedsim.heads.base import FittedHeadSettings, Head
from fedsim.methods.linear_probe import LinearProbeClient, LinearProbeServer
from fedsim.settings import TrainSettings


class LinearProbeSettings(FittedHeadSettings):
    """Keys of :class:`LinearProbe`."""

    name: str = "linear-probe"
    epochs: int = Field(20, ge=1, le=10_000, description="local epochs")
    lr: float = Field(0.03, gt=0, le=100, description="Adam learning rate")
    batch_size: int = Field(64, ge=1, le=1_000_000, description="samples a step")

    @property
    def weighted(self) -> bool:
        return True


class _Client(LinearProbeClient[LinearProbeSettings]):
    def settings(self) -> TrainSettings:
        return TrainSettings(epochs=self.params.epochs, lr=self.params.lr, batch_size=self.params.batch_size)


class LinearProbe(Head):
    """FedAvg of the head, for one round, as in the paper."""

    name = "linear-probe"
    summary = "one round of linear probing: the head is trained at the clients and averaged by samples"
    Params = LinearProbeSettings
    Client, Server = _Client, LinearProbeServer
