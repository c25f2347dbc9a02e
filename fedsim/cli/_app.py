"""The application that commands are added to, and what they share: console, configuration, errors."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console

import results
from fedsim.config import Config, catalogue, load_config
from fedsim.display import key_names
from fedsim.errors import FedsimError, explained
from fedsim.logs import LOG_LEVEL, show_records

app = typer.Typer(
    help="Simulation of communication-efficient federated fine-tuning on Ray.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
console = Console()
#: For tables whose lines are better broken by the terminal than their columns by us.
wide_console = Console(width=10_000)
#: The parts of the help.
RUNS, RESULTS, CONFIGURATIONS = "Runs", "Results", "Configurations"


def complete(incomplete: str) -> list[str]:
    """Keys, members and files that begin so, for the shell's completion."""
    known = catalogue()
    key, equals, start = incomplete.partition("=")
    if not equals:
        keys = [f"{name}=" for name in key_names(known) if name.startswith(incomplete)]
        return keys + [str(path) for path in Path().glob(f"{incomplete}*.yaml")]
    members = known.kinds.get(key.removesuffix(".name"), {})
    return [f"{key}={name}" for name in members if name.startswith(start)]


Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CONFIG.yaml] [KEY=VALUE]...",
        help="A configuration file, local or a URI, then dotted overrides.",
        autocompletion=complete,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"] | None,
    typer.Option(help="Least level of log records to show, of this process, of Ray and of what clients log."),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fedsim {version('deltamask')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Simulation of communication-efficient federated fine-tuning on Ray."""


def set_output(quiet: bool, level: str | None) -> None:
    """Show nothing but errors, and log records from a level on, also of the processes that Ray starts."""
    console.quiet = quiet
    if level is not None:
        os.environ[LOG_LEVEL] = level.upper()
    show_records()


def split_arguments(arguments: list[str] | None) -> tuple[str | None, list[str]]:
    """The configuration file, if the first word is one, and the overrides."""
    words = arguments or []
    if words and ("://" in words[0].partition("=")[0] or "=" not in words[0]):
        return words[0], words[1:]
    return None, words


def read_config(arguments: list[str] | None) -> Config:
    """The configuration that a command's words give."""
    file, overrides = split_arguments(arguments)
    return load_config(file, overrides)


@contextmanager
def errors() -> Iterator[None]:
    """Turn errors that a user can mend into one message and exit code 2, and an interrupt into exit code 130."""
    # A batch system ends a job by SIGTERM, a lost connection by SIGHUP: end as on Ctrl-C, and leave no process.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup: what is ignored stays so
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        fresh = ", without --fresh," if "--fresh" in sys.argv else ""
        fail(f"interrupted: finished rounds are stored; the same command{fresh} goes on", 130)
    except (FedsimError, OSError, results.LocationError, results.DamagedError) as error:
        catalogue()  # kept, so that the next mistyped key is answered at once
        fail(f"error: {explained(error)}", 2)


def fail(message: str, code: int) -> NoReturn:
    """End the command by a message."""
    Console(stderr=True).print(message, soft_wrap=True, markup=False, highlight=False)
    raise SystemExit(code)
