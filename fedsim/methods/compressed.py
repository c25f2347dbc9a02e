"""Fine-tuning whose updates go through one compressor, by the names and with the defaults of the papers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SerializeAsAny

from fedsim.compression.deepreduce import DeepReduceSettings
from fedsim.compression.drive import DriveSettings
from fedsim.compression.eden import EdenSettings
from fedsim.compression.qsgd import QsgdSettings
from fedsim.methods.dense import DenseSettings
from fedsim.methods.fedavg import FedAvg
from fedsim.settings import CompressorSettings

_GROUP = "group of the method's compressor"


class _MeanSettings(DenseSettings):
    weighting: Literal["samples", "uniform"] = Field("uniform", description="the papers estimate the plain mean")


class QsgdMethodSettings(_MeanSettings):
    """Parameters of :class:`QsgdMethod`."""

    name: str = "qsgd"
    compressor: SerializeAsAny[CompressorSettings] = Field(default_factory=QsgdSettings, description=_GROUP)


class QsgdMethod(FedAvg):
    """Alistarh et al., "QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding" (NeurIPS 2017)."""

    name, summary = "qsgd", "fine-tuning; updates stochastically rounded and Elias-coded"
    Params = QsgdMethodSettings


class DriveMethodSettings(_MeanSettings):
    """Parameters of :class:`DriveMethod`."""

    name: str = "drive"
    compressor: SerializeAsAny[CompressorSettings] = Field(default_factory=DriveSettings, description=_GROUP)


class DriveMethod(FedAvg):
    """Vargaftik et al., "DRIVE: One-bit Distributed Mean Estimation" (NeurIPS 2021)."""

    name, summary = "drive", "fine-tuning; updates rotated and sent as signs, 1 bit a parameter"
    Params = DriveMethodSettings


class EdenMethodSettings(_MeanSettings):
    """Parameters of :class:`EdenMethod`."""

    name: str = "eden"
    compressor: SerializeAsAny[CompressorSettings] = Field(default_factory=EdenSettings, description=_GROUP)


class EdenMethod(FedAvg):
    """Vargaftik et al., "EDEN: Communication-Efficient and Robust Distributed Mean Estimation" (ICML 2022)."""

    name, summary = "eden", "fine-tuning; updates rotated and quantised at any rate"
    Params = EdenMethodSettings


class DeepReduceMethodSettings(DenseSettings):
    """Parameters of :class:`DeepReduceMethod`."""

    name: str = "deepreduce"
    compressor: SerializeAsAny[CompressorSettings] = Field(default_factory=DeepReduceSettings, description=_GROUP)
    error_feedback: bool = Field(True, description="add what was not sent to the client's next update")


class DeepReduceMethod(FedAvg):
    """Xu et al., "DeepReduce: A Sparse-tensor Communication Framework for Federated Deep Learning" (NeurIPS 2021)."""

    name, summary = "deepreduce", "fine-tuning; the largest updates, their indices in a Bloom filter (P0)"
    Params = DeepReduceMethodSettings
