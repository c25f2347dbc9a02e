"""Errors of stored results."""

from __future__ import annotations


class LocationError(ValueError):
    """A location of results is neither a path nor a URI that can be opened."""


class DamagedError(ValueError):
    """A stored file is cut, changed or of another kind; the message begins with its place."""


class OwnershipError(OSError):
    """Another process writes the run, so this one may not, or not any more."""
