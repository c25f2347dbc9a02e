"""One mechanism for all groups whose keys depend on a name: the member of a registry that it chooses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from pydantic import ValidationError

from fedsim.settings._settings import MemberError, Settings


class Members(Protocol):
    """A registry; see :class:`fedsim.registry.Registry`."""

    def get(self, name: str) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...


def validate_member(value: Any, registry: Members, default: str) -> Any:
    """Validate a group by the ``Params`` of the member that its key ``name`` chooses.

    Args:
        value: what a configuration gives for the group.
        registry: the members of the kind.
        default: the name when none is given.

    Raises:
        ValueError: an unknown name or an invalid value.
    """
    if isinstance(value, Settings):
        value = value.model_dump()
    if not isinstance(value, Mapping):
        return value
    name = value.get("name", default)
    if not isinstance(name, str):
        raise ValueError(f"name: found {name!r}, allowed: text")
    try:
        params = registry.get(name).Params
    except ValueError as error:
        raise ValueError(f"name: {error}") from None
    try:
        return params.model_validate({**value, "name": name})
    except ValidationError as error:
        owners: dict[str, list[str]] = {}
        for member in registry:
            for key in member.Params.model_fields.keys() - params.model_fields.keys():
                owners.setdefault(key, []).append(member.name)
        raise MemberError(params, error.errors(), owners, f"name is {name}") from None
