"""Loading a backbone's weights from a local file."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fedsim.errors import ConfigError

_WRAPPERS = ("state_dict", "model", "model_state", "teacher")  # keys that training scripts put weights under

#: Weights as a file holds them, to weights as a module names them.
Convert = Callable[[dict[str, Tensor]], Mapping[str, Tensor]]


def load_weights(
    module: nn.Module,
    path: str,
    *,
    convert: Convert = dict,
    ignored: tuple[str, ...] = (),
    key: str = "model.checkpoint",
) -> None:
    """Load a file into ``module``; every key and shape must match.

    Args:
        module: what to load into; weights of other precision are converted.
        path: a safetensors file, or one of ``torch.save`` that holds tensors alone.
        convert: renames and reshapes the file's weights.
        ignored: beginnings of keys that may be in the file though the module has none of them, such as a classifier's.
        key: what to call the file in an error.

    Raises:
        ConfigError: no such file, neither of the two formats, or keys or shapes that differ, each by name.
    """
    weights = dict(convert(_read(path, key)))
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {
        name: tuple(value.shape) for name, value in weights.items() if name in expected or not name.startswith(ignored)
    }
    problems = [
        *(f"missing {name}" for name in sorted(expected.keys() - found.keys())),
        *(f"unexpected {name}" for name in sorted(found.keys() - expected.keys())),
        *(
            f"{name} of shape {found[name]} instead of {expected[name]}"
            for name in sorted(expected.keys() & found.keys())
            if found[name] != expected[name]
        ),
    ]
    if problems:
        shown = "; ".join(problems[:10]) + (f"; and {len(problems) - 10} more" if len(problems) > 10 else "")
        raise ConfigError(f"{key}: {path!r} does not fit this backbone: {shown}")
    module.load_state_dict({name: weights[name] for name in found})


def _read(path: str, key: str) -> dict[str, Tensor]:
    try:
        weights: Any = load_file(path)
    except OSError as error:
        raise ConfigError(f"{key}: expected a file at {path!r}, found {error}") from error
    except SafetensorError as not_safetensors:
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
            raise ConfigError(
                f"{key}: expected a safetensors file or a torch file of tensors alone at {path!r}, "
                f"found neither: {not_safetensors}; {str(error).splitlines()[0]}"
            ) from error
    while isinstance(weights, dict) and (inner := next((name for name in _WRAPPERS if name in weights), None)):
        weights = weights[inner]
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ConfigError(f"{key}: expected tensors by name at {path!r}, found {type(weights).__name__}")
    return {name.removeprefix("module."): value for name, value in weights.items()}
