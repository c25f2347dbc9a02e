"""Adapters: a frozen network whose weight matrices get a change that follows from one small vector."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.func import functional_call

from fedsim.errors import ConfigError
from fedsim.methods.updates import UpdateSettings
from fedsim.models import TaskModel


class AdapterSettings(UpdateSettings):
    """Parameters of methods that train an adapter."""

    rank: int = Field(4, ge=1, le=4096, description="rank r of each update")
    targets: str = Field("", description="regular expression that a weight's name must contain, such as attn")

    @field_validator("targets")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"found {value!r}, allowed: a regular expression ({error})") from None
        return value

    def names(self, model: TaskModel) -> list[str]:
        """The weight matrices of a model to adapt.

        Raises:
            ConfigError: ``targets`` is found in the name of none.
        """
        parameters = dict(model.network.named_parameters())
        matrices = [name for name in model.masked_names if parameters[name].ndim > 1]
        names = [name for name in matrices if re.search(self.targets, name)]
        if not names:
            known = ", ".join(matrices)
            raise ConfigError(f"method.targets: found {self.targets!r}, allowed: what one of these contains: {known}")
        return names


class AdaptedNetwork(nn.Module, ABC):
    """A frozen network whose chosen weights W become ``W + change``; a subclass says how changes follow from a vector.

    Weights of more than two dimensions count as matrices of their first one by all others.

    Args:
        module: the network; it is kept, not copied, and frozen.
        names: parameters to adapt.

    Attributes:
        shapes: rows and columns of each of them.
        weights_d: where the vector starts, float32 of shape ``(n,)``.
    """

    weights_d: Tensor

    def __init__(self, module: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.module, self.names = module.requires_grad_(False), names
        self.shapes = [(weight.shape[0], weight[0].numel()) for weight in self.weights()]

    def weights(self) -> Iterator[Tensor]:
        """The frozen weights to adapt."""
        return (self.module.get_parameter(name) for name in self.names)

    @abstractmethod
    def changes(self, weights_d: Tensor) -> Iterator[Tensor]:
        """The change of each weight by a vector, as matrices of :attr:`shapes`."""

    def forward(self, inputs: Any, weights_d: Tensor) -> Any:
        """The network's output with the changes of a vector."""
        changed = zip(self.names, self.weights(), self.changes(weights_d), strict=True)
        adapted = {name: weight + change.view(weight.shape) for name, weight, change in changed}
        return functional_call(self.module, adapted, (inputs,))
