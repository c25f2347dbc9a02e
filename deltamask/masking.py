"""Masked forward passes over frozen weights: which tensors are masked, straight-through gradients, scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from deltamask.fused import DrawnWeights

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def select_parameters(module: nn.Module, prefixes: Iterable[str] = ("",), *, biases: bool = False) -> list[str]:
    """Names of the parameters to mask: weight matrices below the given prefixes, in the module's order.

    A weight matrix is a parameter of two or more dimensions, so attention layers that hold theirs as bare parameters
    are covered and normalisation layers are not.

    Args:
        module: the network.
        prefixes: names of submodules, such as ``"blocks.3"``; ``""`` is the whole module.
        biases: also take parameters of one dimension.

    Raises:
        ValueError: a prefix holds no such parameter.
    """
    names: dict[str, None] = {}
    candidates = [name for name, p in module.named_parameters() if p.ndim >= 2 or (biases and p.ndim == 1)]
    for prefix in prefixes:
        below = [name for name in candidates if not prefix or name == prefix or name.startswith(prefix + ".")]
        if not below:
            raise ValueError(f"prefixes: found {prefix!r}, which holds no parameter to mask")
        names.update(dict.fromkeys(below))
    return [name for name in candidates if name in names]


class FlatNetwork(nn.Module):
    """A frozen network as a function of some of its weights, which are one vector of ``d`` entries.

    Args:
        module: the pretrained network; it is kept, not copied, and frozen.
        names: parameters that the vector holds, as :func:`select_parameters` gives them.

    Attributes:
        weights_d: their pretrained values, of shape ``(d,)`` and the parameters' type.

    Raises:
        ValueError: ``names`` is empty or names an unknown parameter, one that is not of floating point of 32 or 16
            bits, or one of another type than the first.
    """

    weights_d: Tensor

    def __init__(self, module: nn.Module, names: Iterable[str]) -> None:
        super().__init__()
        self.names = list(names)
        parameters = dict(module.named_parameters())
        if not self.names:
            raise ValueError("names: expected at least one parameter, found none")
        for name in self.names:
            found = parameters[name].dtype if name in parameters else "none of that name"
            if found not in _DTYPES or found != parameters[self.names[0]].dtype:
                allowed = "parameters of the module of one type of float32, bfloat16 and float16"
                raise ValueError(f"names: expected {allowed}, found {name!r} ({found})")
        self.module = module.requires_grad_(False)
        self._freeze_statistics()
        chosen = [parameters[name] for name in self.names]
        self._shapes = [p.shape for p in chosen]
        self._sizes = [p.numel() for p in chosen]
        self.register_buffer("weights_d", torch.cat([p.detach().flatten() for p in chosen]), persistent=False)

    def train(self, mode: bool = True) -> FlatNetwork:
        """As for any module; but batch normalisation stays as it is in evaluation: its statistics are frozen, too."""
        super().train(mode)
        self._freeze_statistics()
        return self

    def _freeze_statistics(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()

    @property
    def size(self) -> int:
        """Number of entries d."""
        return self.weights_d.numel()

    def forward(self, *inputs: Any, weights_d: Tensor | None = None, **named: Any) -> Any:
        """The network's output with these weights in place of its own; see :meth:`with_weights`."""
        return self.with_weights(*inputs, weights_d=weights_d, **named)

    @contextmanager
    def holding(self, vector_d: Tensor) -> Iterator[list[nn.Parameter]]:
        """The module's own parameters as views of a vector, which is trained in place, without a copy a step.

        Afterwards they are frozen and what they were.
        """
        held = [self.module.get_parameter(name) for name in self.names]
        before = [parameter.data for parameter in held]
        try:
            for parameter, part, shape in zip(held, vector_d.split(self._sizes), self._shapes, strict=True):
                parameter.data = part.view(shape)
                parameter.requires_grad_(True)
            yield held
        finally:
            for parameter, data in zip(held, before, strict=True):
                parameter.data, parameter.grad = data, None
                parameter.requires_grad_(False)

    def with_weights(self, *inputs: Any, weights_d: Tensor | None = None, **named: Any) -> Any:
        """The network's output with these weights in place of its own, of a subclass, too.

        Args:
            inputs, named: arguments of the network.
            weights_d: of shape ``(d,)``; where it is not named, it is the last of ``inputs``.
        """
        if weights_d is None:
            *inputs, weights_d = inputs  # type: ignore[assignment]
        return functional_call(self.module, self.parts(weights_d), tuple(inputs), named)

    def parts(self, weights_d: Tensor) -> dict[str, Tensor]:
        """The parameters that a vector holds, by name; of vectors of shape ``(..., d)``, all with these axes first."""
        parts = zip(self.names, weights_d.split(self._sizes, -1), self._shapes, strict=True)
        return {name: part.view(*weights_d.shape[:-1], *shape) for name, part, shape in parts}


class MaskedModule(FlatNetwork):
    """A frozen network whose chosen weights are multiplied by a mask of ``d`` entries.

    All parameters of ``module`` are frozen. The only trainable one is :attr:`scores_d`, with probabilities
    ``theta = sigmoid(scores)``. A training step draws a mask ``[u < theta]`` from the stream of a key::

        loss = cross_entropy(net(x, key=key), y)
        loss.backward()  # the gradient of scores_d goes straight through the draw

    while evaluation passes any multiplier: ``net(x, net.theta())`` or ``net(x, (net.theta() > 0.5).float())``. A
    network of several or named inputs gets them as they are, ``net(input_ids=..., attention_mask=..., key=key)``; of
    their names, ``mask_d`` and ``key`` are taken. Scores and probabilities are float32, whatever the weights are.
    Arguments and errors are those of :class:`FlatNetwork`.
    """

    def __init__(self, module: nn.Module, names: Iterable[str]) -> None:
        super().__init__(module, names)
        self.scores_d = nn.Parameter(torch.zeros_like(self.weights_d, dtype=torch.float32))

    def theta(self) -> Tensor:
        """The probabilities, float32 of shape ``(d,)``, without gradient."""
        return torch.sigmoid(self.scores_d.detach())

    def load_theta(self, theta_d: Tensor | np.ndarray) -> None:
        """Set the scores to ``logit(theta_d)``. Raises ValueError unless each lies strictly between 0 and 1."""
        scores_d = torch.logit(torch.as_tensor(theta_d, dtype=torch.float32))
        if not scores_d.isfinite().all():
            raise ValueError("theta_d: expected values strictly between 0 and 1, found others")
        self.scores_d.data.copy_(scores_d)

    def drawn(self, key: int) -> Tensor:
        """The masked weights by the mask that a key draws, of shape ``(d,)``; their gradient leads to the scores."""
        weights_d: Tensor = DrawnWeights.apply(self.scores_d, self.weights_d, key)
        return weights_d

    def forward(self, *inputs: Any, mask_d: Tensor | None = None, key: int | None = None, **named: Any) -> Any:
        """The network's output with its masked weights multiplied by ``mask_d``, or by a mask that ``key`` draws.

        Where neither is named, the last of several positional arguments is ``mask_d``; with a single one or none, the
        output is that of the plain weights.

        Raises:
            ValueError: ``mask_d`` is not of shape ``(d,)``.
        """
        if key is not None:
            return self.with_weights(*inputs, weights_d=self.drawn(key), **named)
        if mask_d is None and len(inputs) > 1:
            *inputs, mask_d = inputs  # type: ignore[assignment]
        if mask_d is None:
            return self.module(*inputs, **named)
        if not isinstance(mask_d, Tensor) or mask_d.shape != self.weights_d.shape:
            found = tuple(mask_d.shape) if isinstance(mask_d, Tensor) else type(mask_d).__name__
            raise ValueError(f"mask_d: expected a tensor of shape {tuple(self.weights_d.shape)}, found {found}")
        return self.with_weights(*inputs, weights_d=(self.weights_d * mask_d).to(self.weights_d.dtype), **named)
