"""Configurations as nested mappings: YAML files and dotted overrides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fedsim.errors import ConfigError


def read_yaml(path: Path) -> Any:
    """The nested mapping of a YAML file. Raises ConfigError where there is none."""
    try:
        tree = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"config: expected a YAML file at {str(path)!r}, found {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"config: expected YAML in {str(path)!r}, found {error}") from error
    if tree is not None and not isinstance(tree, dict):
        raise ConfigError(f"config: expected keys and values in {str(path)!r}, found {type(tree).__name__}")
    return tree or {}


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Change a nested mapping by ``"key=value"``, with a dotted key and a YAML value.

    Raises:
        ConfigError: it is not of that form, or the key leads through a value.
    """
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"override: found {override!r}, allowed: key=value with a dotted key")
    try:
        assign(tree, key, yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ConfigError(f"{key}: found {text!r}, allowed: a YAML value ({error})") from error


def assign(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key of a nested mapping. Raises ConfigError where the key leads through a value."""
    keys = key.split(".")
    *parents, last = keys
    for depth, parent in enumerate(parents):
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{'.'.join(keys[: depth + 1])}: found {child!r}, allowed: a group of keys")
        tree = child
    tree[last] = value
