"""Errors that a user can mend; the command line shows their message without a traceback."""

from __future__ import annotations

import re
import traceback

_SHOWN_DETAILS = 6  # lines


class FedsimError(Exception):
    """Base of the errors below.

    Attributes:
        details: the calls that led there, where they are somebody else's than the simulator's.
        run: folder of the run that it ended, whose log has all of it; None where no run was going on.
    """

    details: str = ""
    run: str | None = None


class ConfigError(FedsimError, ValueError):
    """A configuration is invalid; the message names each field, what was found and what is allowed."""


class DataError(FedsimError, ValueError):
    """A dataset cannot be read; the message says where it was looked for, what was found and what to put there."""


class ResourceError(FedsimError, RuntimeError):
    """The cluster cannot hold the workers that a configuration asks for; the message says which resource is short."""


class CheckpointError(FedsimError, ValueError):
    """A checkpoint cannot be used; the message says what was expected and what was found."""


class ClientError(FedsimError, RuntimeError):
    """Local training failed at a client, or its upload cannot be decoded; or too few clients of a round are left.

    Args:
        message: which client of which round, and what went wrong.
        details: the traceback, for the results.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message, details)
        self.details = details

    def __str__(self) -> str:
        return str(self.args[0])


class WorkerLostError(FedsimError, RuntimeError):
    """Workers died under the same work more often than ``cluster.max_attempts`` allows."""


class CallbackError(FedsimError, RuntimeError):
    """A callback raised; the message names it and the moment, and its own error is the cause. Rounds are stored."""


def explained(error: BaseException) -> str:
    """An error for whom can mend it: the message, and where details are known, their end and where all of them are."""
    details = getattr(error, "details", "").splitlines()
    if not details:
        return str(error)
    shown = [f"    {line}" for line in ["..."] * (len(details) > _SHOWN_DETAILS) + details[-_SHOWN_DETAILS:]]
    run = getattr(error, "run", None)
    return "\n".join([str(error), *shown, *([f"all of it: fedsim logs {run}"] if run else [])])


def in_words(error: BaseException) -> str:
    """An error as the results store it: its type, its message, and the traceback of what it was at."""
    details = getattr(error, "details", "")
    return f"{type(error).__name__}: {error}" + (f"\n{details}" if details else "")


def full_trace(error: BaseException) -> str:
    """An error with all that is known of where it came from, for the log of a run."""
    details = getattr(error, "details", "")
    text = "".join(traceback.format_exception(error)) + (f"{details}\n" if details else "")
    return re.sub("\x1b\\[[0-9;]*m", "", text)  # Ray's come in colours
