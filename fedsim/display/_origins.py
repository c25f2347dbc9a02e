"""A resolved configuration as YAML, each value with the place that it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from fedsim.config import Config

_WIDTH = 60


def with_origins(config: Config, file: str | None, tree: Mapping[str, Any], overrides: Iterable[str]) -> str:
    """The configuration as YAML, with a comment after each value: command line, file, member or default.

    Args:
        config: what the rest resolved to.
        file: name of the configuration file, if there is one.
        tree: its content.
        overrides: ``"key=value"``, which come after it.
    """
    given = [override.partition("=")[0] for override in overrides]
    lines: list[str] = []
    _write(config.model_dump(mode="json"), "", lambda key: _origin(key, config, file, tree, given), lines)
    return "\n".join(lines)


def _write(tree: Mapping[str, Any], prefix: str, origin: Any, lines: list[str]) -> None:
    indent = "  " * prefix.count(".")
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            lines.append(f"{indent}{name}:")
            _write(value, f"{prefix}{name}.", origin, lines)
        else:
            text = yaml.safe_dump({name: value}, default_flow_style=True, width=10_000).strip()[1:-1]
            lines.append(f"{indent + text:{_WIDTH}}  # {origin(prefix + name)}")


def _origin(key: str, config: Config, file: str | None, tree: Mapping[str, Any], given: list[str]) -> str:
    if any(key == one or key.startswith(f"{one}.") for one in given):
        return "command line"
    value: Any = tree
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) and part in value else _ABSENT
    if value is not _ABSENT:
        return str(file)
    group, _, rest = key.partition(".")
    if group == "train":
        return f"default of method {config.method.name}"
    name = getattr(getattr(config, group), "name", None) if rest and rest != "name" else None
    return f"default of {group} {name}" if isinstance(name, str) else "default"


_ABSENT: Any = object()
