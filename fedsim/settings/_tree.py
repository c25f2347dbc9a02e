"""Configurations as nested mappings: YAML files and dotted overrides."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fedsim.errors import ConfigError

#: Bounds of a configuration, far above any that a person writes; YAML can say more than a computer can hold.
_VALUES, _DEPTH, _CHARACTERS = 100_000, 50, 10_000


def read_yaml(place: str | os.PathLike[str]) -> Any:
    """The nested mapping of a YAML file, a local path or a URI. Raises ConfigError where there is none."""
    path = os.fspath(place)
    try:
        tree = _parse(_text(path), f"config: expected YAML in {path!r}, found")
    except OSError as error:
        raise ConfigError(f"config: expected a YAML file at {path!r}, found {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"config: expected YAML in {path!r}, found {error}") from error
    if tree is not None and not isinstance(tree, dict):
        raise ConfigError(f"config: expected keys and values in {path!r}, found {type(tree).__name__}")
    check_size(tree or {})
    return tree or {}


def _text(path: str) -> str:
    if "://" not in path:
        return Path(path).read_text()
    from results import LocationError, locations  # imports pyarrow

    try:
        filesystem, name = locations.open_filesystem(path)
    except LocationError as error:
        raise ConfigError(f"config: {error}") from error
    data = locations.read(filesystem, name)
    if data is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return data.decode()


def check_size(tree: Any) -> None:
    """Refuse nested values that are too many, too deep or too long; aliases count each time that they are used.

    Raises:
        ConfigError: they are.
    """
    count = 0
    waiting = [("", tree, 0)]
    while waiting:
        key, value, depth = waiting.pop()
        count += 1
        if depth > _DEPTH:
            raise ConfigError(f"{key[:100]}: found more than {_DEPTH} levels, allowed: fewer")
        if count > _VALUES:
            raise ConfigError(f"{key[:100] or 'config'}: found more than {_VALUES:,} values, allowed: fewer")
        if isinstance(value, str) and len(value) > _CHARACTERS:
            raise ConfigError(f"{key}: found a text of {len(value):,} characters, allowed: at most {_CHARACTERS:,}")
        inner = (
            value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
        )
        waiting += [(f"{key}.{name}" if key else str(name), one, depth + 1) for name, one in inner]


def _parse(text: str, place: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{place} {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{place} too many levels") from error
    except ValueError as error:  # a number or a date that Python does not take
        raise ConfigError(f"{place} {error}") from error


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Change a nested mapping by ``"key=value"``, with a dotted key and a YAML value.

    Raises:
        ConfigError: it is not of that form, or the key leads through a value.
    """
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"override: found {override[:_CHARACTERS]!r}, allowed: key=value with a dotted key")
    shown = repr(text) if len(text) <= _CHARACTERS else f"{len(text):,} characters"
    assign(tree, key, _parse(text, f"{key}: found {shown}, allowed: a YAML value;"))


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
