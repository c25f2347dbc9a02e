"""DeepReduce: fine-tuning whose largest updates are sent, their indices in a Bloom filter."""

from __future__ import annotations

from pydantic import Field, SerializeAsAny

from fedsim.compression import CompressorConfig
from fedsim.compression.deepreduce import DeepReduceConfig
from fedsim.methods.dense import DenseConfig
from fedsim.methods.fedavg import FedAvg


class DeepReduceMethodConfig(DenseConfig):
    """Parameters of :class:`DeepReduceMethod`."""

    name: str = "deepreduce"
    compressor: SerializeAsAny[CompressorConfig] = Field(
        default_factory=DeepReduceConfig, description="group of DeepReduce"
    )
    error_feedback: bool = Field(True, description="add what was not sent to the client's next update")


class DeepReduceMethod(FedAvg):
    """Xu et al., "DeepReduce: A Sparse-tensor Communication Framework for Federated Deep Learning" (NeurIPS 2021)."""

    name = "deepreduce"
    summary = "fine-tuning; the largest updates, their indices in a Bloom filter (P0)"
    Params = DeepReduceMethodConfig
