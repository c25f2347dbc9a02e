"""Loading a backbone's weights from a local file."""

from __future__ import annotations

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from fedsim.errors import ConfigError


def load_weights(module: nn.Module, path: str) -> None:
    """Load a safetensors file into ``module``; every key and shape must match.

    Raises:
        ConfigError: no such file, not safetensors, or keys or shapes that differ, each by name.
    """
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"model.checkpoint: expected a safetensors file at {path!r}, found {error}") from error
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in weights.items()}
    problems = [
        *(f"missing {key}" for key in expected.keys() - found.keys()),
        *(f"unexpected {key}" for key in found.keys() - expected.keys()),
        *(
            f"{key} of shape {found[key]} instead of {expected[key]}"
            for key in expected.keys() & found.keys()
            if found[key] != expected[key]
        ),
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:10]) + ("; ..." if len(problems) > 10 else "")
        raise ConfigError(f"model.checkpoint: {path!r} does not fit this backbone: {shown}")
    module.load_state_dict(weights)
