"""The callbacks that a configuration asks for, each in a file of its own, imported where it is used."""

from __future__ import annotations

import importlib
from typing import Any

from fedsim.callbacks._callback import Callback
from fedsim.errors import ConfigError
from fedsim.registry import Registry
from fedsim.settings import LogSettings

#: Keys of the group, which are also extras of the package: module, class, and the library that the module imports.
_LOGGERS = {
    "tensorboard": ("fedsim.callbacks._tensorboard", "TensorBoard", "tensorboard"),
    "mlflow": ("fedsim.callbacks._mlflow", "MLflow", "mlflow"),
    "wandb": ("fedsim.callbacks._wandb", "WeightsAndBiases", "wandb"),
}


def loggers(settings: LogSettings) -> list[Callback]:
    """New callbacks, one for each key that is set and each class that is named.

    Raises:
        ConfigError: a library is not installed, or a class cannot be imported or made.
    """
    made: list[Callback] = []
    for key, (module, name, library) in _LOGGERS.items():
        target = getattr(settings, key)
        if target is not None:
            try:
                made.append(getattr(importlib.import_module(module), name)(target))
            except ImportError as error:
                raise ConfigError(
                    f"log.{key}: found {target!r}, allowed: none, as {library} is not installed: "
                    f"pip install 'deltamask[{key}]' ({error})"
                ) from error
            except Exception as error:  # of the library, whatever it calls it
                reason = str(error).partition(". ")[0]
                raise ConfigError(
                    f"log.{key}: found {target!r}, allowed: what {library} can open ({reason})"
                ) from error
    classes: Registry[Any] = Registry("log.callbacks", [], base=Callback)
    for name in settings.callbacks:
        try:
            made.append(classes.get(name)())
        except (ValueError, TypeError) as error:  # of the name, and of a class that wants arguments
            raise ConfigError(f"log.callbacks: {error}") from error
    return made
