"""Both halves of the head's phase and of the method's, from a configuration: the one place that makes them."""

from __future__ import annotations

import torch

from fedsim.config import Config
from fedsim.engine._types import PhaseName
from fedsim.heads import HEADS
from fedsim.methods import METHODS
from fedsim.methods.base import MethodClient, MethodServer
from fedsim.methods.phase import Phase
from fedsim.models import TaskModel, build_model
from fedsim.settings import Settings


def make_model(config: Config, classes: int, device: torch.device | str = "cpu") -> TaskModel:
    """The backbone with its untrained head."""
    return build_model(config.model, classes, device, train_head=HEADS.get(config.head.name).joint)


def make_clients(config: Config, model: TaskModel) -> dict[PhaseName, MethodClient]:
    """The client halves, with all kernels compiled."""
    return {name: phase.client(params, config, model) for name, (phase, params) in phases(config).items()}


def make_servers(config: Config, model: TaskModel) -> dict[PhaseName, MethodServer]:
    """The server halves, with all kernels compiled."""
    return {name: phase.server(params, config, model) for name, (phase, params) in phases(config).items()}


def phases(config: Config) -> dict[PhaseName, tuple[type[Phase], Settings]]:
    """The head's phase and the method's with their parameters, with all kernels compiled."""
    phases: dict[PhaseName, tuple[type[Phase], Settings]] = {
        "head": (HEADS.get(config.head.name), config.head),
        "method": (METHODS.get(config.method.name), config.method),
    }
    for phase, params in phases.values():
        phase.compile_kernels(params)
    return phases
