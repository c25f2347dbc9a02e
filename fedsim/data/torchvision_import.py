"""Importing torchvision beside a torch that its compiled operators do not fit.

The registry's torchvision is compiled for CUDA. Beside a CPU-only torch its library does not load, and the import fails
where it registers shapes for operators of that library. None of them is used here, so declaring them is enough.
"""

from __future__ import annotations

import sys
from types import ModuleType

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_declared: list[torch.library.Library] = []  # a declaration ends with its library object


def import_torchvision() -> ModuleType:
    """torchvision; call this before importing a package that imports it, such as timm or open_clip."""
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name, schema in _SCHEMAS.items():
            if not hasattr(torch.ops.torchvision, name):
                library.define(schema)
        _declared.append(library)
        import torchvision
    return torchvision
