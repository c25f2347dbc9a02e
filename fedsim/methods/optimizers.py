"""Optimisers of local training by their names in ``train.optimizer``."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from fedsim.config import TrainConfig


def make_optimizer(config: TrainConfig, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """A fresh optimiser with the configured learning rate."""
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=config.lr)
    return torch.optim.SGD(parameters, lr=config.lr, momentum=0.9)
