"""A backbone with a classifier head, as a client or the server holds it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from deltamask import select_parameters
from fedsim.errors import ConfigError
from fedsim.models.backbone import Backbone

_EMBEDDED = 256  # samples whose activations are held at once


class TaskModel:
    """One frozen backbone, a linear head and the names of the masked weights, on one device.

    Args:
        backbone: the pretrained network.
        classes: number of classes of the head.
        device: where to compute.
        mask_biases: whether methods may change the biases and scales of the masked blocks too.
        train_head: whether methods may change the head too, and not only the one that fits it in round 0.

    Raises:
        ConfigError: there is nothing that methods may change.

    Attributes:
        network: masked blocks, suffix and head as one module: prefix features to logits.
        masked_names: parameters of ``network`` that methods may change: the weight matrices of the masked blocks, and
            of a head that is trained with them.
        dimension: their number d.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        device: torch.device | str = "cpu",
        *,
        mask_biases: bool = False,
        train_head: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self.backbone = backbone.eval().requires_grad_(False).to(self.device)
        self.train_head = train_head
        if train_head:
            self.head = nn.Linear(backbone.embedding_size, classes).to(self.device)
        else:  # logistic regression is convex: zeros are as good a start as any, and need no generator
            self.head = nn.utils.skip_init(nn.Linear, backbone.embedding_size, classes, device=self.device)
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        self.head.requires_grad_(False)
        self.network = nn.Sequential(backbone.blocks, backbone.suffix, self.head)
        if not (len(backbone.blocks) or train_head):
            raise ConfigError("model.masked_blocks: found 0, allowed: at least 1, or head.name=joint")
        self.masked_names: list[str] = []
        if len(backbone.blocks):
            self.masked_names += select_parameters(self.network, ["0"], biases=mask_biases)
        if train_head:
            self.masked_names += select_parameters(self.network, ["2"], biases=True)
        parameters = dict(self.network.named_parameters())
        self.dimension = sum(parameters[name].numel() for name in self.masked_names)
        self._mean, self._std = (
            torch.tensor(values, device=self.device).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std)
        )

    @torch.no_grad()
    def prefix_features(self, pixels: np.ndarray) -> Tensor:
        """Features that the frozen prefix gives, on this model's device.

        Args:
            pixels: RGB images of the backbone's input size, uint8 of shape ``(n, size, size, 3)``.
        """
        images = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float().div_(255)
        features: Tensor = self.backbone.prefix((images - self._mean) / self._std)
        return features

    @torch.no_grad()
    def embed(self, features: Tensor) -> Tensor:
        """Embeddings by the unchanged backbone, float32 of shape ``(n, embedding_size)``; bounded in memory."""
        return torch.cat([self.backbone.suffix(self.backbone.blocks(part)) for part in features.split(_EMBEDDED)])

    def head_state(self) -> dict[str, np.ndarray]:
        """The frozen head's parameters as float32 arrays: ``weight`` of shape (classes, embedding_size) and ``bias``.

        Empty for a head that is trained with the blocks, as it is among the masked parameters.
        """
        return {name: p.detach().cpu().numpy().copy() for name, p in self._frozen_head()}

    def head_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays of :meth:`head_state` by name."""
        return {name: tuple(p.shape) for name, p in self._frozen_head()}

    def load_head(self, state: Mapping[str, np.ndarray]) -> None:
        """Set the frozen head's parameters; a NumPy view of received bytes is copied."""
        for name, parameter in self._frozen_head():
            parameter.data.copy_(torch.tensor(state[name]))

    def temper_head(self, temperature: float) -> None:
        """Divide the frozen head's logits by a temperature."""
        for _, parameter in self._frozen_head():
            parameter.data.div_(temperature)

    def _frozen_head(self) -> list[tuple[str, nn.Parameter]]:
        return [] if self.train_head else list(self.head.named_parameters())
