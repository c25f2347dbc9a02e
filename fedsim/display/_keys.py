"""Listings of what there is to choose from: kinds and their members, keys with defaults and allowed values."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from fedsim.config import catalogue
from fedsim.display._tables import plain_table
from fedsim.errors import ConfigError
from fedsim.registry import suggestion
from fedsim.settings import Catalogue, Key

#: Key, default, what is allowed and what it is; None between groups.
Row = tuple[str, str, str, str] | None
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
        rows = key_rows(known)
    elif name is None:
        found = _kind(known, kind)
        rows = _group_rows(known, found) if found in known.groups else _member_rows(known, found, set())
    else:
        rows = _one_member(known, _kind(known, kind), name)
    for row in rows:
        table.add_section() if row is None else table.add_row(*row)
    return table


def key_rows(known: Catalogue) -> Iterator[Row]:
    """The rows of the list of all keys."""
    for key, described in known.top.items():
        yield _row(key, described)
    for group in known.groups:
        yield None
        yield from _group_rows(known, group)
        for nested in known.kinds:
            if nested.startswith(f"{group}."):
                yield from _member_rows(known, nested, set())


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


def _one_member(known: Catalogue, kind: str, name: str) -> Iterator[Row]:
    members = known.kinds.get(kind, {})
    if name not in members:
        allowed = ", ".join(members) or f"none, as {kind} has no members"
        raise ConfigError(f"{kind}: found {name!r}, allowed: {allowed}{suggestion(name, members)}")
    yield name, "", "", members[name].summary
    for key, described in members[name].keys.items():
        if key != "name":
            yield _row(f"  {kind}.{key}", described)


def _group_rows(known: Catalogue, group: str) -> Iterator[Row]:
    keys = known.groups[group]
    for key, described in keys.items():
        yield _row(f"{group}.{key}", described, "see below" if key == "name" and group in known.kinds else None)
    if group in known.kinds:
        yield from _member_rows(known, group, set(keys))


def _member_rows(known: Catalogue, kind: str, common: set[str]) -> Iterator[Row]:
    """Members below each other; a key that several have is described at the first of them."""
    if not common:  # a group or a key inside another one
        yield f"{kind}.name" if _has_keys(known, kind) else f"{kind}:", "", "", "one of"
        common = {"name"}
    seen: set[str] = set()
    inner = [other for other in known.kinds if other.startswith(f"{kind}.") and _has_keys(known, other)]
    nested = {other.rpartition(".")[2] for other in inner}
    for name, member in known.kinds[kind].items():
        own = {key: described for key, described in member.keys.items() if key not in common | nested}
        again = [f"{key}={own[key].default}" if own[key].default else key for key in own if key in seen]
        yield f"  {name}", "", "", member.summary + (f"; also {', '.join(again)}" if again else "")
        for key, described in own.items():
            if key not in seen:
                yield _row(f"    {kind}.{key}", described)
        seen |= own.keys()


def _has_keys(known: Catalogue, kind: str) -> bool:
    """Whether a kind is a group of keys, rather than the values of one key."""
    return any(member.keys for member in known.kinds[kind].values())


def _row(key: str, described: Key, allowed: str | None = None) -> Row:
    return key, described.default, described.allowed if allowed is None else allowed, described.description
