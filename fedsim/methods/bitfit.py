"""BitFit: only the biases of the masked blocks are trained and sent."""

from __future__ import annotations

import deltamask as dm
from fedsim.errors import ConfigError
from fedsim.methods.dense import DenseMethod, DenseSettings
from fedsim.methods.updates import FlatFunction
from fedsim.models import TaskModel
from fedsim.settings import Experiment


class BitFitSettings(DenseSettings):
    """Parameters of :class:`BitFit`."""

    name: str = "bitfit"


class BitFit(DenseMethod):
    """Ben Zaken et al., "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Models" (ACL 2022)."""

    name = "bitfit"
    summary = "only the biases of the masked blocks, averaged by samples"
    Params = BitFitSettings

    @classmethod
    def flatten(cls, params: BitFitSettings, experiment: Experiment, model: TaskModel) -> FlatFunction:
        below = dm.select_parameters(model.network, ["0"], biases=True) if len(model.backbone.blocks) else []
        parameters = dict(model.network.named_parameters())
        biases = [name for name in below if name.endswith("bias") and parameters[name].ndim == 1]
        if model.train_head:  # as in the paper, where the head is trained too
            biases += dm.select_parameters(model.network, ["2"], biases=True)
        if not biases:
            raise ConfigError("method.name: found 'bitfit', allowed: others, as these masked blocks have no biases")
        return dm.FlatNetwork(model.network, biases)
