"""Ridge regression as a head for other methods."""

from __future__ import annotations

from fedsim.compression import compile_compressor
from fedsim.heads.base import FittedHeadSettings, Head
from fedsim.methods.ridge import RidgeKeys, RidgeServer
from fedsim.methods.statistics import StatisticsClient, StatisticsSettings


class RidgeSettings(RidgeKeys, FittedHeadSettings):
    """Keys of :class:`RidgeHead`."""

    name: str = "ridge"


class RidgeHead(Head):
    """The head of :class:`fedsim.methods.ridge.Ridge`, with a temperature, frozen under another method."""

    name = "ridge"
    summary = "ridge regression in closed form from Gram matrices and class sums, the same for every partition"
    Params = RidgeSettings
    Client, Server = StatisticsClient, RidgeServer

    @classmethod
    def compile_kernels(cls, params: StatisticsSettings) -> None:
        compile_compressor(params.compressor)
