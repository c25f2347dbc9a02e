"""The member that a suite tests: by name, as ``package.module:Class``, or as the class."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fedsim.registry import Registry
from fedsim.settings import Settings


def name_of(member: str | type | None, registry: Registry[Any], attribute: str) -> str:
    """The name of a member in a configuration.

    Args:
        member: a name, ``package.module:Class`` or a class.
        registry: the members of its kind.
        attribute: of the suite, which gives the member; an error names it.

    Raises:
        TypeError: none is given.
    """
    if member is None:
        raise TypeError(f"{attribute}: found none, allowed: the name or the class of what is tested")
    if isinstance(member, str):
        return member
    if any(known is member for known in registry):
        return str(member.name)  # type: ignore[attr-defined]
    return f"{member.__module__}:{member.__name__}"


def params_of(name: str, registry: Registry[Any], settings: Mapping[str, Any]) -> Any:
    """A member's settings, with these keys."""
    params: type[Settings] = registry.get(name).Params
    return params.model_validate({"name": name, **settings})


def overrides_of(group: str, name: str, settings: Mapping[str, Any]) -> list[str]:
    """``"key=value"`` for a group that chooses a member and has these keys."""
    return [f"{group}.name={name}", *(f"{group}.{key}={json.dumps(value)}" for key, value in settings.items())]


def check_named(member: Any) -> None:
    """A name for configurations and a line for listings."""
    assert isinstance(member.name, str)
    assert member.name.strip()
    assert member.summary.strip()
    assert "\n" not in member.summary
