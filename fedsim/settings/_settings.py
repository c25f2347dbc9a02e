"""Settings: the base of all groups of configuration keys, and their errors in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from fedsim.registry import suggestion

#: Marks a key that never changes a result: ``Field(..., json_schema_extra=no_result)``. A run's name leaves it out.
no_result: dict[str, Any] = {"changes_results": False}
#: Marks a key that came later: a run's name leaves it out where it has its default, which is what runs did before.
unless_default: dict[str, Any] = {"unless_default": True}
#: Marks a path of a file or folder whose content counts and not its name, where it can be read.
by_content: dict[str, Any] = {"by_content": True}


def local_folder(place: str) -> str | None:
    """The folder of this machine that a name means which may also be one of a hub; None where there is none."""
    folder = Path(place).expanduser()
    return str(folder) if place and folder.is_dir() else None


class Settings(BaseModel):
    """A group of keys: frozen, closed to unknown keys, and without those that others of its values make meaningless.

    Attributes:
        only_with: keys that are used only where another key of the group has one of some values, such as
            ``{"momentum": ("optimizer", ("sgd",))}``. Elsewhere they are refused, and left out of what is stored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    only_with: ClassVar[Mapping[str, tuple[str, tuple[Any, ...]]]] = {}

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_values(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads ``yes`` as a truth value, which would pass for the number 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError(f"found {value!r}, allowed: another type than a truth value")
        return value

    @model_validator(mode="after")
    def _no_meaningless_keys(self) -> Settings:
        for name in sorted(self._unused() & self.model_fields_set):
            key, values = self.only_with[name]
            wanted = " or ".join(map(repr, values))
            raise ValueError(
                f"{name}: found {getattr(self, name)!r}, allowed: none, as it is used only where {key} is {wanted}, "
                f"found {getattr(self, key)!r}"
            )
        return self

    @model_serializer(mode="wrap")
    def _used_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        for name in self._unused():
            content.pop(name, None)
        return content

    def _unused(self) -> set[str]:
        return {name for name, (key, values) in self.only_with.items() if getattr(self, key) not in values}

    def paths(self) -> dict[str, str]:
        """The values of all keys that are marked :data:`by_content`, by dotted key."""
        found: dict[str, str] = {}
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Settings):
                found |= {f"{name}.{key}": path for key, path in value.paths().items()}
            elif info.json_schema_extra == by_content and value is not None:
                found[name] = value
        return found

    def result_keys(self) -> dict[str, Any]:
        """The group as JSON values, without keys that do not change a result."""
        content: dict[str, Any] = self.model_dump(mode="json")
        for name, info in type(self).model_fields.items():
            same = info.json_schema_extra == unless_default and getattr(self, name) == info.default
            if info.json_schema_extra == no_result or same:
                content.pop(name, None)
            elif name in content and isinstance(value := getattr(self, name), Settings):
                content[name] = value.result_keys()
        return content


class MemberError(ValueError):
    """Errors of a group that the settings of a member validate.

    Args:
        settings: of the member.
        errors: as pydantic gives them.
        owners: keys that other members of the kind have, and their names.
        choice: how the member was chosen, such as ``"name is iid"``.
    """

    def __init__(self, settings: type[Settings], errors: list[Any], owners: Mapping[str, list[str]], choice: str):
        super().__init__(f"{len(errors)} invalid values")
        self.settings, self.errors, self.owners, self.choice = settings, errors, owners, choice


def explain_errors(error: ValidationError, settings: type[Settings], moved: Mapping[str, str] | None = None) -> str:
    """A line for each error: field, what was found, what is allowed.

    Args:
        error: what pydantic raised.
        settings: the group that was validated.
        moved: dotted keys of earlier versions and where they are now.
    """
    lines = [line for item in error.errors() for line in _explain(item, settings, moved or {})]
    return "\n".join(dict.fromkeys(lines))


def settings_of(annotation: Any) -> Any:
    """The group that a field holds, perhaps optionally or in a mapping."""
    inner = [argument for argument in get_args(annotation) if argument not in (str, type(None))]
    return settings_of(inner[0]) if inner else annotation


def _explain(
    item: Any,
    settings: type[BaseModel],
    moved: Mapping[str, str],
    prefix: tuple[str, ...] = (),
    member: MemberError | None = None,
) -> list[str]:
    """A validation error as lines of: field, what was found, what is allowed."""
    path = tuple(str(part) for part in item["loc"])
    field = ".".join(prefix + path) or "config"
    if item["type"] == "extra_forbidden":
        if field in moved:
            return [f"{field}: moved to {moved[field]}"]
        if member is not None and len(path) == 1 and path[0] in member.owners:
            return [unused_key(field, _names(settings), member.owners[path[0]], member.choice)]
        for key in path[:-1]:
            if key in settings.model_fields:  # else it is a key of a mapping to groups
                settings = settings_of(settings.model_fields[key].annotation)
        return [unknown_key(field, _names(settings))]
    if item["type"] == "value_error":
        error = item["ctx"]["error"]
        if isinstance(error, MemberError):
            nested = (_explain(one, error.settings, moved, prefix + path, error) for one in error.errors)
            return [line for lines in nested for line in lines]
        # A validator of the whole group begins with the key that is wrong.
        inner = re.match(r"[\w.]+: ", str(error))
        return [f"{field}.{error}".removeprefix("config.") if inner else f"{field}: {error}"]
    allowed = item["msg"].replace("Input should be", "").replace("a valid ", "").strip()
    if item["type"] == "model_type":
        allowed = "a group of keys"
    if item["type"] == "tuple_type":
        allowed = "a list, such as [A, B]"
    return [f"{field}: found {item['input']!r}, allowed: {allowed}"]


def unknown_key(field: str, known: Iterable[str]) -> str:
    """The error of a dotted key that its group, with these keys, does not have."""
    known = list(known)
    return f"{field}: unknown key{suggestion(field.rpartition('.')[2], known)}{_keys(field, known)}"


def unused_key(field: str, known: Iterable[str], owners: Iterable[str], choice: str) -> str:
    """The error of a dotted key that only other members of the kind have than the chosen one."""
    # The other keys of a method without a compressor would not help.
    none = field.rpartition(".")[2] == "compressor"
    more = f" ({choice.removeprefix('name is ')} has no compressor)" if none else _keys(field, known)
    return f"{field}: not used where {choice}, but by: {', '.join(owners)}{more}"


def _names(settings: type[BaseModel]) -> list[str]:
    """Names of the keys as they are written in a file."""
    return [info.alias or name for name, info in settings.model_fields.items()]


def _keys(field: str, known: Iterable[str]) -> str:
    prefix = field[: field.rfind(".") + 1]
    return f" (allowed: {', '.join(prefix + key for key in known)})"
