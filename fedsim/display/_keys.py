"""Listings of what there is to choose from: kinds and their members, keys with defaults and allowed values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.table import Table

from fedsim.config import catalogue
from fedsim.display._tables import plain_table
from fedsim.errors import ConfigError
from fedsim.registry import suggestion
from fedsim.settings import Catalogue, Key

#: What people call kinds, and the groups of keys that they are.
_ALSO = {"dataset": "data", "partitioner": "partition", "backbone": "model"}


def list_kinds() -> Table:
    """A line for each group of keys: the names to choose from, or its keys."""
    known = catalogue()
    table = plain_table("kind", "names, or keys")
    table.add_row("", ", ".join(known.top))
    for group in known.groups:
        members = known.kinds.get(group)
        table.add_row(group, ", ".join(members or known.groups[group]))
        for kind, nested in known.kinds.items():
            if kind.startswith(f"{group}."):
                table.add_row(f"  {kind.rpartition('.')[2]}", ", ".join(nested))
    return table


def list_keys(kind: str | None = None, name: str | None = None) -> Table:
    """Every key once: those of a member of a kind below its name.

    Args:
        kind: list only this group of keys, or what its key chooses, such as ``compressor``; all when None.
        name: list only this member of the kind, with all of its keys.

    Raises:
        ConfigError: there is no such kind or member.
    """
    known = catalogue()
    table = plain_table("key", "default", "allowed", "what it is")
    if kind is None:
        for key, described in known.top.items():
            _add(table, key, described)
        for group in known.groups:
            table.add_section()
            _add_group(table, known, group)
            for nested in known.kinds:
                if nested.startswith(f"{group}."):
                    _add_members(table, known, nested, set())
        return table
    found = _kind(known, kind)
    if name is not None:
        members = known.kinds.get(found, {})
        if name not in members:
            allowed = ", ".join(members) or f"none, as {found} has no members"
            raise ConfigError(f"{found}: found {name!r}, allowed: {allowed}{suggestion(name, members)}")
        table.add_row(name, "", "", members[name].summary)
        for key, described in members[name].keys.items():
            if key != "name":
                _add(table, f"  {found}.{key}", described)
    elif found in known.groups:
        _add_group(table, known, found)
    else:
        _add_members(table, known, found, set())
    return table


def key_names(known: Catalogue) -> list[str]:
    """All dotted keys, those of members once."""
    names = [*known.top, *(f"{group}.{key}" for group, keys in known.groups.items() for key in keys)]
    for kind, members in known.kinds.items():
        names += [f"{kind}.{key}" for member in members.values() for key in member.keys]
    return list(dict.fromkeys(names))


def _kind(known: Catalogue, word: str) -> str:
    kinds = [*known.groups, *known.kinds]
    found = _ALSO.get(word, word)
    for kind in kinds:
        if found in (kind, kind.rpartition(".")[2]):
            return kind
    words = dict.fromkeys([*(kind.rpartition(".")[2] for kind in kinds), *_ALSO])
    raise ConfigError(f"KIND: found {word!r}, allowed: {', '.join(words)}{suggestion(word, words)}")


def _add_group(table: Table, known: Catalogue, group: str) -> None:
    keys = known.groups[group]
    for key, described in keys.items():
        _add(table, f"{group}.{key}", described, "see below" if key == "name" and group in known.kinds else None)
    if group in known.kinds:
        _add_members(table, known, group, set(keys))


def _add_members(table: Table, known: Catalogue, kind: str, common: set[str]) -> None:
    """Members below each other; a key that several have is described at the first of them."""
    if not common:  # a group or a key inside another one
        table.add_row(f"{kind}.name" if _has_keys(known, kind) else f"{kind}:")
        common = {"name"}
    seen: set[str] = set()
    nested = {
        other.rpartition(".")[2] for other in known.kinds if other.startswith(f"{kind}.") and _has_keys(known, other)
    }
    for name, member in known.kinds[kind].items():
        own = {key: described for key, described in member.keys.items() if key not in common | nested}
        again = _again(own, seen)
        table.add_row(f"  {name}", "", "", member.summary + (f"; also {', '.join(again)}" if again else ""))
        for key, described in own.items():
            if key not in seen:
                _add(table, f"    {kind}.{key}", described)
        seen |= own.keys()


def _has_keys(known: Catalogue, kind: str) -> bool:
    """Whether a kind is a group of keys, rather than the values of one key."""
    return any(member.keys for member in known.kinds[kind].values())


def _again(own: Mapping[str, Key], seen: Iterable[str]) -> list[str]:
    return [f"{key}={own[key].default}" if own[key].default else key for key in own if key in set(seen)]


def _add(table: Table, key: str, described: Key, allowed: str | None = None) -> None:
    table.add_row(key, described.default, described.allowed if allowed is None else allowed, described.description)
