"""Names in a configuration to the things they stand for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar, cast


class Named(Protocol):
    """What a registry holds: a name for configurations and one line for listings."""

    @property
    def name(self) -> str: ...
    @property
    def summary(self) -> str: ...


T = TypeVar("T", bound=Named)


class Registry(Generic[T]):
    """The members of one kind by name.

    Args:
        field: configuration key that selects a member, such as ``"method.name"``; error messages name it.
        members: the members, in the order of listings.
    """

    def __init__(self, field: str, members: Iterable[T]) -> None:
        self.field = field
        self._members = {member.name: member for member in members}

    def __iter__(self) -> Iterator[T]:
        return iter(self._members.values())

    def get(self, name: str) -> T:
        """The member called ``name``. Raises ValueError, with what is allowed, when there is none.

        A member called ``"prefix:NAME"`` is that of every name with the prefix.
        """
        prefix, colon, rest = name.partition(":")
        try:
            return self._members[f"{prefix}:NAME" if colon and rest else name]
        except KeyError:
            raise ValueError(
                f"found {name!r}, allowed: {', '.join(self._members)}{suggestion(name, self._members)}"
            ) from None


class ImportingRegistry(Registry[T]):
    """A registry in which ``"package.module:Class"`` names a class of a package that need not be registered.

    Args:
        base: the class that it must be a subclass of.
    """

    def __init__(self, field: str, members: Iterable[T], *, base: type) -> None:
        super().__init__(field, members)
        self._base = base

    def get(self, name: str) -> T:
        """The member called ``name``, or the class that it names. Raises ValueError when there is neither."""
        module, colon, attribute = name.partition(":")
        if not colon:
            return super().get(name)
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"found {name!r}, allowed: package.module:Class that can be imported ({error})") from error
        if not (isinstance(found, type) and issubclass(found, self._base)):
            raise ValueError(f"found {name!r}, allowed: a subclass of {self._base.__module__}.{self._base.__name__}")
        return cast(T, found)


def suggestion(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the known name nearest to ``name``, or nothing when none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
