"""The command line, a module for each part of the help: runs, results, configurations."""

from __future__ import annotations

import os
import sys

from fedsim.cli import _compute, _inspect, _prepare  # noqa: F401  they add their commands, in this order
from fedsim.cli._app import app

__all__ = ["app", "main"]


def main() -> None:
    """Entry point of the ``fedsim`` command."""
    sys.path.append(os.getcwd())  # for package.module:Class of the user's own; Ray does so for its workers
    sys.exit(app())
