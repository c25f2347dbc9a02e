"""EDEN: fine-tuning whose updates go through the compressor of that name."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SerializeAsAny

from fedsim.compression import CompressorConfig
from fedsim.compression.eden import EdenConfig
from fedsim.methods.dense import DenseConfig
from fedsim.methods.fedavg import FedAvg


class EdenMethodConfig(DenseConfig):
    """Parameters of :class:`EdenMethod`."""

    name: str = "eden"
    compressor: SerializeAsAny[CompressorConfig] = Field(default_factory=EdenConfig, description="group of EDEN")
    weighting: Literal["samples", "uniform"] = Field("uniform", description="the paper estimates the plain mean")


class EdenMethod(FedAvg):
    """Vargaftik et al., "EDEN: Communication-Efficient and Robust Distributed Mean Estimation" (ICML 2022)."""

    name = "eden"
    summary = "fine-tuning; updates rotated and quantised at any rate"
    Params = EdenMethodConfig
