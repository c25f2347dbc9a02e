"""Federated averaging of the masked blocks' weights: full fine-tuning, and the accuracy to reach."""

from __future__ import annotations

from typing import ClassVar

import deltamask as dm
from fedsim.methods.dense import DenseMethod, DenseSettings
from fedsim.methods.updates import FlatFunction
from fedsim.models import TaskModel
from fedsim.settings import Experiment


class FedAvgSettings(DenseSettings):
    """Parameters of :class:`FedAvg`."""

    name: str = "fedavg"


class FedAvg(DenseMethod):
    """McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data" (AISTATS 2017).

    With ``method.server_momentum`` it is FedAvgM (Hsu et al., 2019).
    """

    name = "fedavg"
    summary = "fine-tuning of the masked blocks' weights, averaged by samples; takes any compressor"
    Params: ClassVar[type[DenseSettings]] = FedAvgSettings

    @classmethod
    def flatten(cls, params: DenseSettings, experiment: Experiment, model: TaskModel) -> FlatFunction:
        return dm.FlatNetwork(model.network, model.masked_names)
