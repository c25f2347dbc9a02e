"""A part of a run as what is registered: its parameters, its two halves, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fedsim.methods.base import MethodClient, MethodServer
from fedsim.models import TaskModel
from fedsim.settings import Experiment, MethodSettings, Settings


class Phase:
    """A part of a run: a method, or the fitting of a head in round 0. Subclasses set the attributes."""

    name: ClassVar[str]
    summary: ClassVar[str]
    #: Its keys in the group that chooses it.
    Params: ClassVar[type[Settings]]
    Client: ClassVar[type[MethodClient[Any]]]
    Server: ClassVar[type[MethodServer[Any]]]

    @classmethod
    def client(cls, params: Any, experiment: Experiment, model: TaskModel) -> MethodClient[Any]:
        """The client half, for a worker."""
        return cls.Client(params, experiment, model)

    @classmethod
    def server(cls, params: Any, experiment: Experiment, model: TaskModel) -> MethodServer[Any]:
        """The server half, for the driver."""
        return cls.Server(params, experiment, model)

    @classmethod
    def passes(cls, params: Any, experiment: Experiment, samples: int) -> float:
        """Forward passes of one sample that a client of so many computes in a round; a backward pass counts as two."""
        train = experiment.train
        return float(samples if train is None else 3 * train.epochs * samples)

    @classmethod
    def compile_kernels(cls, params: Any) -> None:
        """Call what is compiled at its first call, so that no later timing holds a compilation."""


class Method(Phase):
    """A federated method, registered in :mod:`fedsim.methods`."""

    Params: ClassVar[type[Settings]] = MethodSettings
    #: Values of the ``train`` group that suit the method, for keys that a configuration does not give; None for a
    #: method that does not train by steps, which has no such group.
    train_defaults: ClassVar[Mapping[str, Any] | None] = {}
