"""DRIVE: fine-tuning whose updates go through the compressor of that name."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SerializeAsAny

from fedsim.compression import CompressorConfig
from fedsim.compression.drive import DriveConfig
from fedsim.methods.dense import DenseConfig
from fedsim.methods.fedavg import FedAvg


class DriveMethodConfig(DenseConfig):
    """Parameters of :class:`DriveMethod`."""

    name: str = "drive"
    compressor: SerializeAsAny[CompressorConfig] = Field(default_factory=DriveConfig, description="group of DRIVE")
    weighting: Literal["samples", "uniform"] = Field("uniform", description="the paper estimates the plain mean")


class DriveMethod(FedAvg):
    """Vargaftik et al., "DRIVE: One-bit Distributed Mean Estimation" (NeurIPS 2021)."""

    name = "drive"
    summary = "fine-tuning; updates rotated and sent as signs, 1 bit a parameter"
    Params = DriveMethodConfig
