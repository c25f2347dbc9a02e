"""The catalogue of all keys and members: what there is to choose from, without importing any of it.

Members import torch, which takes seconds, so the catalogue is kept beside other caches until the code changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import PydanticInvalidForJsonSchema

from fedsim.errors import ConfigError
from fedsim.registry import unknown_member
from fedsim.settings._member import Members
from fedsim.settings._moved import MOVED
from fedsim.settings._settings import Settings, settings_of, unknown_key, unused_key

#: What is allowed of a key, by what JSON schema says of it.
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_FORM = 1


@dataclass(frozen=True)
class Key:
    """A configuration key: its default, what is allowed and what it is, as text."""

    default: str
    allowed: str
    description: str


@dataclass(frozen=True)
class Member:
    """A member of a kind: what it is, and its keys."""

    summary: str
    keys: dict[str, Key]


@dataclass(frozen=True)
class Catalogue:
    """All keys and members.

    Attributes:
        top: keys that are in no group.
        groups: the keys of each group that all of its members have.
        kinds: the members of each kind, by the group of keys (or the key) that chooses one.
        chosen: the member of each group that is chosen where none is named.
    """

    top: dict[str, Key]
    groups: dict[str, dict[str, Key]]
    kinds: dict[str, dict[str, Member]]
    chosen: dict[str, str]

    @classmethod
    def of(cls, config: type[Settings], kinds: Mapping[str, Members]) -> Catalogue:
        """The catalogue of a configuration and the members of its kinds."""
        top, groups, chosen, whole = {}, {}, {}, keys_of(config)
        for name, info in config.model_fields.items():
            group = settings_of(info.annotation)
            if not (isinstance(group, type) and issubclass(group, Settings)):
                top[name] = whole[name]
                continue
            groups[name] = keys_of(group)
            if name in kinds:
                chosen[name] = info.default.name
        members = {
            kind: {
                member.name: Member(member.summary, keys_of(getattr(member, "Params", Settings))) for member in registry
            }
            for kind, registry in kinds.items()
        }
        return cls(top, groups, members, chosen)

    def check(self, tree: Mapping[str, Any]) -> list[str]:
        """Errors of unknown keys and names, in the words of a validation; it finds those of values, too.

        Args:
            tree: a configuration as nested mappings.
        """
        errors: list[str] = []
        for group, value in tree.items():
            if group not in self.top and group not in self.groups:
                errors.append(unknown_key(str(group), [*self._order()]))
            elif group in self.groups and isinstance(value, Mapping):
                errors += self._check_group(group, value)
        return [error for error in errors if error.partition(":")[0] not in MOVED]

    def _check_group(self, group: str, value: Mapping[str, Any]) -> list[str]:
        members, keys, choice = self.kinds.get(group), self.groups[group], ""
        owners: dict[str, list[str]] = {}
        if members is not None:
            name = value.get("name", self.chosen[group])
            if not isinstance(name, str) or ":" in name:
                return []
            if name not in members:
                return [f"{group}.name: {unknown_member(name, members)}"]
            keys, choice = members[name].keys, f"name is {name}"
            for other, member in members.items():
                for key in member.keys.keys() - keys.keys():
                    owners.setdefault(key, []).append(other)
        return [
            unused_key(f"{group}.{key}", keys, owners[key], choice)
            if key in owners
            else unknown_key(f"{group}.{key}", keys)
            for key in map(str, value)
            if key not in keys
        ]

    def _order(self) -> list[str]:
        return [*self.top, *self.groups]

    @classmethod
    def kept(cls) -> Catalogue | None:
        """The catalogue that :meth:`keep` kept of this code; None where there is none."""
        try:
            found = json.loads(_place().read_text())
        except (OSError, ValueError):
            return None
        keys = lambda named: {key: Key(**value) for key, value in named.items()}  # noqa: E731
        kinds = {
            kind: {name: Member(member["summary"], keys(member["keys"])) for name, member in members.items()}
            for kind, members in found["kinds"].items()
        }
        groups = {group: keys(named) for group, named in found["groups"].items()}
        return cls(keys(found["top"]), groups, kinds, found["chosen"])

    def keep(self) -> None:
        """Keep the catalogue for later processes, where that is possible."""
        place = _place()
        with suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            for older in place.parent.glob("keys-*.json"):
                older.unlink(missing_ok=True)
            hidden = place.with_suffix(f".{os.getpid()}")
            hidden.write_text(json.dumps(asdict(self)))
            hidden.replace(place)


def check_keys(tree: Mapping[str, Any]) -> None:
    """Answer unknown keys and names at once, where validating them would first have to import torch.

    Raises:
        ConfigError: there are some, and the catalogue is kept.
    """
    if "torch" not in sys.modules and (known := Catalogue.kept()) and (errors := known.check(tree)):
        raise ConfigError("\n".join(errors))


def keys_of(settings: type[Settings]) -> dict[str, Key]:
    """The keys of a group."""
    try:
        schema = settings.model_json_schema()
    except PydanticInvalidForJsonSchema:
        schema = {}
    properties = schema.get("properties", {})
    found = {}
    for name, info in settings.model_fields.items():
        default = info.get_default(call_default_factory=True)
        shown = "" if default is None or isinstance(default, Settings) else str(default)
        found[name] = Key(shown, _allowed(properties.get(name, {})), info.description or "")
    return found


def _allowed(schema: Mapping[str, Any]) -> str:
    """The values that a JSON schema allows, as text."""
    if "anyOf" in schema:
        return " or ".join(filter(None, (_allowed(one) for one in schema["anyOf"])))
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        inner = _allowed(schema.get("items", {}))
        return f"list of {inner}" if inner else "list"
    bounds = " and ".join(f"{sign} {schema[bound]:g}" for bound, sign in _BOUNDS.items() if bound in schema)
    names = {"integer": "whole number", "number": "number", "boolean": "true, false", "string": "text", "null": "null"}
    return " ".join(filter(None, (names.get(schema.get("type", ""), ""), bounds)))


def _place() -> Path:
    """The file of the catalogue, whose name is a digest of the state of the files that have members."""
    state = hashlib.blake2b(str(_FORM).encode(), digest_size=8)
    library = find_spec("deltamask")  # it has the codecs; finding it does not import torch
    folders = [
        Path(__file__).parents[1],
        *(Path(place) for place in (library and library.submodule_search_locations) or ()),
    ]
    for file in sorted(path for folder in folders for path in folder.rglob("*.py")):
        found = file.stat()
        state.update(f"{file} {found.st_size} {found.st_mtime_ns}\n".encode())
    cache = Path(os.environ.get("FEDSIM_CACHE", "~/.cache/fedsim")).expanduser()
    return cache / f"keys-{state.hexdigest()}.json"
