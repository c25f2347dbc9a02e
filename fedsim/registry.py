"""Registries: from names in a configuration to the things they stand for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, Protocol, TypeVar, cast


class Named(Protocol):
    """A member of a registry: a name for configurations and one line for listings."""

    @property
    def name(self) -> str: ...
    @property
    def summary(self) -> str: ...


T = TypeVar("T", bound=Named)

#: Names of code that may be imported; None: all.
_trusted: ContextVar[frozenset[str] | None] = ContextVar("trusted", default=None)


@contextmanager
def trust_only(names: Iterable[str]) -> Iterator[None]:
    """Import no code but that of these names, while a configuration is read that somebody else may have written."""
    token = _trusted.set(frozenset(names))
    try:
        yield
    finally:
        _trusted.reset(token)


def check_trusted(name: str, field: str) -> None:
    """Raise ValueError where code that a configuration names in a key must not be imported, see :func:`trust_only`."""
    trusted = _trusted.get()
    if trusted is not None and name not in trusted:
        raise ValueError(
            f"found {name!r} in a stored configuration, allowed: to import it only when it is named again "
            f"({field}={name}) or everything is trusted (--trust)"
        )


class Registry(Generic[T]):
    """The members of one kind by name; ``"package.module:Class"`` names one that need not be registered.

    Args:
        field: configuration key that selects a member, such as ``"method.name"``; error messages name it.
        members: the members, in the order of listings.
        base: the class that an imported one must be a subclass of.
        make: turns an imported class into a member; the class itself is the member when not given.
    """

    def __init__(self, field: str, members: Iterable[T], *, base: type, make: Callable[[Any], T] | None = None) -> None:
        self.field = field
        self._members = {member.name: member for member in members}
        self._base, self._make = base, make

    def __iter__(self) -> Iterator[T]:
        return iter(self._members.values())

    def get(self, name: str) -> T:
        """The member called ``name``. Raises ValueError, with what is allowed, when there is none.

        A member called ``"prefix:NAME"`` is that of every name with the prefix; another name with a colon is imported.
        """
        known = self._known(name)
        if known in self._members:
            return self._members[known]
        if self.imports(name):
            return self._import(name)
        raise ValueError(unknown_member(name, self._members))

    def imports(self, name: str) -> bool:
        """Whether a name is that of code to import."""
        return ":" in name and self._known(name) not in self._members

    @staticmethod
    def _known(name: str) -> str:
        prefix, colon, rest = name.partition(":")
        return f"{prefix}:NAME" if colon and rest else name

    def _import(self, name: str) -> T:
        check_trusted(name, self.field)
        module, _, attribute = name.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:  # it is somebody's code: anything may happen
            reason = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
            raise ValueError(
                f"found {name!r}, allowed: {', '.join(self._members)} or package.module:Class that can be imported "
                f"({reason})"
            ) from error
        if not (isinstance(found, type) and issubclass(found, self._base)):
            raise ValueError(f"found {name!r}, allowed: a subclass of {self._base.__module__}.{self._base.__name__}")
        if missing := getattr(found, "__abstractmethods__", None):
            raise ValueError(f"found {name!r}, allowed: a class that implements {', '.join(sorted(missing))}")
        return self._make(found) if self._make else cast(T, found)


def unknown_member(name: str, known: Iterable[str]) -> str:
    """The error of a name that no member of a kind has."""
    known = list(known)
    return f"found {name!r}, allowed: {', '.join(known)} or package.module:Class{suggestion(name, known)}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the known name nearest to ``name``, or nothing when none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
