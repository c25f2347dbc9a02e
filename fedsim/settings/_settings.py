"""Groups of configuration keys, and what all configurations share: YAML files, dotted overrides, error messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from fedsim.errors import ConfigError
from fedsim.registry import suggestion


class Group(BaseModel):
    """Base of all configuration groups: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_values(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads ``yes`` as a truth value, which would pass for the number 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError(f"found {value!r}, allowed: another type than a truth value")
        return value


def explain_errors(error: ValidationError, group: type[Group]) -> str:
    """A line for each error: field, what was found, what is allowed."""
    return "\n".join(line for item in error.errors() for line in _explain(item, group))


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


def named_group(value: Any, find: Callable[[str], type[Group]], default: str) -> Any:
    """Validate a group by the parameters of the member that its key ``name`` names.

    Args:
        value: what a configuration gives for the group.
        find: parameters of the member of a name; raises ValueError when there is none.
        default: the name when none is given.

    Raises:
        ValueError: an unknown name or an invalid parameter.
    """
    if isinstance(value, Group):
        value = value.model_dump()
    if not isinstance(value, Mapping):
        return value
    name = value.get("name", default)
    if not isinstance(name, str):
        raise ValueError(f"name: found {name!r}, allowed: text")
    try:
        params = find(name)
    except ValueError as error:
        raise ValueError(f"name: {error}") from None
    try:
        return params.model_validate({**value, "name": name})
    except ValidationError as error:
        raise _GroupError(params, error.errors()) from None


class _GroupError(ValueError):
    """Errors of a group that is validated by a model of its own."""

    def __init__(self, group: type[Group], errors: list[Any]) -> None:
        super().__init__(f"{len(errors)} invalid values")
        self.group, self.errors = group, errors


def _group_of(annotation: Any) -> Any:
    """The group that a field holds, perhaps optionally or in a mapping."""
    inner = [argument for argument in get_args(annotation) if argument not in (str, type(None))]
    return _group_of(inner[0]) if inner else annotation


def _explain(item: Any, group: type[BaseModel], prefix: tuple[str, ...] = ()) -> list[str]:
    """A validation error as lines of: field, what was found, what is allowed."""
    path = tuple(str(part) for part in item["loc"])
    field = ".".join(prefix + path) or "config"
    if item["type"] == "extra_forbidden":
        for key in path[:-1]:
            if key in group.model_fields:  # else it is a key of a mapping to groups
                group = _group_of(group.model_fields[key].annotation)
        known = list(group.model_fields)
        allowed = ", ".join(".".join((*prefix, *path[:-1], key)) for key in known)
        return [f"{field}: unknown key{suggestion(path[-1], known)} (allowed: {allowed})"]
    if item["type"] == "value_error":
        error = item["ctx"]["error"]
        if isinstance(error, _GroupError):
            return [line for nested in error.errors for line in _explain(nested, error.group, prefix + path)]
        return [f"{field}: {error}" if str(error).startswith("found") else f"{field}.{error}"]
    allowed = item["msg"].replace("Input should be", "").replace("a valid ", "").strip()
    if item["type"] == "model_type":
        allowed = "a group of keys"
    return [f"{field}: found {item['input']!r}, allowed: {allowed}"]
