"""Pages of the site that are made from the code: configuration keys, columns, commands and the packages' API."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Iterator

import typer
from typer.cli import get_docs_for_click

from fedsim.cli import app
from fedsim.config import catalogue
from fedsim.display import key_rows
from results import schema

_TABLES = {
    "runs": ("One row a run.", schema.RUNS),
    "rounds": ("One row a round.", schema.ROUNDS),
    "clients": ("One row a client and round.", schema.CLIENTS),
    "classes": ("One row a class and evaluation.", schema.CLASSES),
}
#: Packages of a page of the API.
_API = {
    "deltamask": ("The method as a library", ["deltamask", "deltamask.codecs"]),
    "fedsim": ("The simulator from Python", ["fedsim"]),
    "extending": (
        "Bases of your own members",
        [
            "fedsim.data",
            "fedsim.data.partition",
            "fedsim.models",
            "fedsim.heads",
            "fedsim.methods",
            "fedsim.compression",
            "fedsim.testing",
        ],
    ),
    "results": ("Results as dataframes", ["results", "results.tables", "results.figures"]),
}


def pages() -> Iterator[tuple[str, str]]:
    """Path and Markdown of every generated page."""
    yield "reference/keys.md", "# Configuration keys\n\n" + "\n".join(_keys())
    yield "reference/columns.md", "# Columns of the results\n\n" + "\n".join(_columns())
    yield "reference/commands.md", _commands()
    for name, (title, packages) in _API.items():
        yield f"reference/{name}.md", f"# {title}\n\n" + "\n".join(_api(packages))


def _keys() -> Iterator[str]:
    yield "All keys, as `fedsim list all` shows them. A member's own keys are below its name, which `name` chooses.\n"
    group = ""
    for row in key_rows(catalogue()):
        if row is None:
            continue
        key, default, allowed, text = row
        found = key.split(".")[0] if "." in key else "experiment"
        if not key.startswith(" ") and found.rstrip(":") != group and not (group and key.endswith(":")):
            group = found
            yield from ("", f"## {group}", "", *_header("key", "default", "allowed", "what it is"))
        name = f"`{key.strip(' :')}`"
        if key.startswith("  "):  # a member, or a key of its own
            name = f"&emsp;{name}" if key.startswith("    ") else f"**{key.strip()}**"
        yield _row(name, f"`{default}`" if default else "", allowed, text)


def _columns() -> Iterator[str]:
    for name, (text, table) in _TABLES.items():
        yield from ("", f"## {name}", "", text, "", *_header("column", "type", "what it is"))
        for field in table:
            yield _row(f"`{field.name}`", str(field.type), field.metadata[b"description"].decode())


def _commands() -> str:
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="fedsim")
    return get_docs_for_click(obj=command, ctx=context, name="fedsim", title="Command line")


def _api(packages: Iterable[str]) -> Iterator[str]:
    for package in packages:
        yield from (f"## {package}", "")
        module = importlib.import_module(package)
        for name in sorted(module.__all__, key=str.casefold):
            member = getattr(module, name)
            if inspect.isclass(member) or inspect.isfunction(member):
                yield f"::: {member.__module__}.{member.__qualname__}\n    options:\n      heading_level: 3\n"


def _header(*names: str) -> list[str]:
    return [_row(*names), _row(*("---" for _ in names))]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"
