"""QSGD: fine-tuning whose updates go through the compressor of that name."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SerializeAsAny

from fedsim.compression import CompressorConfig
from fedsim.compression.qsgd import QsgdConfig
from fedsim.methods.dense import DenseConfig
from fedsim.methods.fedavg import FedAvg


class QsgdMethodConfig(DenseConfig):
    """Parameters of :class:`QsgdMethod`."""

    name: str = "qsgd"
    compressor: SerializeAsAny[CompressorConfig] = Field(default_factory=QsgdConfig, description="group of QSGD")
    weighting: Literal["samples", "uniform"] = Field("uniform", description="the paper estimates the plain mean")


class QsgdMethod(FedAvg):
    """Alistarh et al., "QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding" (NeurIPS 2017)."""

    name = "qsgd"
    summary = "fine-tuning; updates stochastically rounded and Elias-coded"
    Params = QsgdMethodConfig
