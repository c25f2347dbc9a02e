"""Commands on what is stored: ls, show, compare, rm, report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer

import results
from fedsim.cli._app import RESULTS, app, console, errors, wide_console
from fedsim.cli._places import written
from fedsim.display import differences_table, overview_table, run_tables
from fedsim.errors import ConfigError

_Paths = Annotated[
    list[str],
    typer.Argument(metavar="PATH... [NAME=VALUE]...", help="Runs or folders of runs, local or URIs, then conditions."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]


@app.command("ls", rich_help_panel=RESULTS)
def list_runs(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH]... [NAME=VALUE]...",
            help="Folders of runs, local or URIs (runs when not given), then conditions on columns and keys.",
        ),
    ] = None,
    sort: Annotated[str, typer.Option(help="Column or key to order by; -NAME for falling values.")] = "started_at",
    columns: Annotated[str | None, typer.Option(help="Columns or keys to show, with commas between them.")] = None,
    as_json: _Json = False,
) -> None:
    """List runs: what they are, what varies between them, what came of them.

    Example: fedsim ls runs status=finished "final_accuracy>0.9" method=deltamask,eden --sort -final_accuracy
    """
    with errors(), _conditions():
        chosen = _select(words or [], tables=("runs",)).runs
        names = None if columns is None else [name.strip() for name in columns.split(",")]
        from results.selection import overview

        table = overview(chosen, names, sort)
    if as_json:
        console.print(table.to_json(orient="records", date_format="iso"), soft_wrap=True, markup=False, highlight=False)
        return
    wide_console.print(overview_table(table))
    console.print(f"{len(table)} run{'' if len(table) == 1 else 's'}", highlight=False)


@app.command(rich_help_panel=RESULTS)
def show(
    path: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run, local or a URI.")],
    rounds: Annotated[int, typer.Option(help="Last rounds to show.", min=0)] = 10,
    as_json: _Json = False,
) -> None:
    """Show one run: configuration, last rounds, where it comes from, warnings, errors with their traceback.

    Example: fedsim show runs/RUN_ID
    """
    with errors(), _conditions():
        loaded = _one(path)
    row = loaded.runs.iloc[0]
    if as_json:
        content = json.loads(loaded.runs.to_json(orient="records", date_format="iso"))[0]
        content["config"] = json.loads(content["config"])
        content["rounds_table"] = json.loads(loaded.rounds.to_json(orient="records"))
        console.print(json.dumps(content), soft_wrap=True, markup=False, highlight=False)
        return
    for part in run_tables(row, loaded.rounds.tail(rounds)):
        console.print(part, soft_wrap=isinstance(part, str), markup=False, highlight=False)


@app.command(rich_help_panel=RESULTS)
def logs(path: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run, local or a URI.")]) -> None:
    """Print the log of a run: what its clients printed, and its errors with the whole traceback.

    Example: fedsim logs runs/RUN_ID
    """
    with errors(), _conditions():
        _one(path)
        from results.log import read_log

        text = read_log(path)
    console.print(text or "nothing was printed and nothing failed", soft_wrap=True, markup=False, highlight=False)


@app.command(rich_help_panel=RESULTS)
def compare(
    paths: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs or folders of runs, then conditions.")],
    output: Annotated[str, typer.Option(help="The figure to write, a PNG, local or a URI.")] = "compare.png",
) -> None:
    """Set runs side by side: the keys that differ, what came of them, and accuracy over rounds as a figure.

    Example: fedsim compare runs/RUN_ID runs/OTHER_ID
    """
    with errors(), _conditions():
        loaded = _select(paths, tables=("runs", "rounds"))
        if len(loaded.runs) < 2:
            raise ConfigError(f"RUN: found {len(loaded.runs)} run, allowed: at least two")
        from results import figures
        from results.selection import differences

        different = differences(loaded.runs)
        wide_console.print(differences_table(loaded.runs, different))
        # The figure is of what there is so far, also of runs that go on.
        picture = figures.over_rounds(replace(loaded, runs=loaded.runs.assign(status="finished")), by=["run_id"])
        with written(output) as local:
            figures.save(picture, local)
    console.print(f"picture   {output}", soft_wrap=True)


@app.command("rm", rich_help_panel=RESULTS)
def remove(
    words: _Paths,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted, and delete nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete runs with everything in their folders; it asks first. Runs that a process writes stay.

    Example: fedsim rm runs status=failed --dry-run
    """
    with errors(), _conditions():
        stores = {}
        for path in _paths(words):
            found = results.load(path, tables=("runs",))
            places = [path] if _is_run(path, found.runs) else [_join(path, name) for name in found.runs["run_id"]]
            kept = set(_conditioned(found.runs, words)["run_id"])
            for place in places:
                folder, name = results.split_location(place)
                if name in kept:
                    stores[place] = results.RunStore(folder, name)
        for place in stores:
            console.print(place, soft_wrap=True, highlight=False)
        count = f"{len(stores)} run{'' if len(stores) == 1 else 's'}"
        if dry_run or not stores:
            console.print(f"{count} would be deleted" if stores else "no run meets the conditions", highlight=False)
            return
        if not yes:
            typer.confirm(f"Delete {count}?", abort=True)
        for store in stores.values():
            store.delete()
    console.print(f"{count} deleted", highlight=False)


@app.command(rich_help_panel=RESULTS)
def report(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Folders of runs, or of single runs, local or URIs.")
    ],
    output: Annotated[
        str | None, typer.Option(help="Folder to write, local or a URI; report in the first PATH when not given.")
    ] = None,
) -> None:
    """Write tables and figures of runs as one HTML page that needs nothing else, and the figures as PNG.

    Example: fedsim report runs
    """
    with errors(), _conditions():
        from results import report as pages  # slow to import, as are the figures

        loaded = _select(paths)
        place = output or _join(_paths(paths)[0], "report")
        with written(place) as folder:
            pages.write(loaded, folder)
    console.print(_join(place, "index.html"), soft_wrap=True)


@app.command(rich_help_panel=RESULTS)
def dashboard(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Folders of runs, or of single runs, local or URIs.")
    ],
    port: Annotated[int, typer.Option(help="Of the page, on 127.0.0.1.")] = 8501,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Follow runs and sweeps on a local page while they go on; Ctrl-C ends it.

    Example: fedsim dashboard runs
    """
    with errors():
        from fedsim.dashboard import serve

        code = serve(paths, port=port, open_browser=browser)
    raise SystemExit(code)


class _conditions:
    """Errors of names and conditions that results do not have, as those of a configuration."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if type(error) is ValueError:
            raise ConfigError(str(error)) from error


def _is_condition(word: str) -> bool:
    return "://" not in word and any(sign in word for sign in "=<>")


def _paths(words: Sequence[str]) -> list[str]:
    return [word for word in words if not _is_condition(word)] or ["runs"]


def _conditioned(runs: Any, words: Sequence[str]) -> Any:
    from results.selection import select

    return select(runs, [word for word in words if _is_condition(word)])


def _select(words: Sequence[str], tables: Sequence[str] | None = None) -> results.Results:
    """The runs at the paths that meet the conditions."""
    loaded = results.load(_paths(words)) if tables is None else results.load(_paths(words), tables=tables)
    if not any(map(_is_condition, words)):
        return loaded
    kept = _conditioned(loaded.runs, words)
    if kept.empty:
        raise ConfigError(f"conditions: none of {len(loaded.runs)} runs meets {' '.join(filter(_is_condition, words))}")
    ids = set(kept["run_id"])
    parts = {name: getattr(loaded, name) for name in ("rounds", "clients", "classes")}
    return replace(loaded, runs=kept, **{name: rows[rows["run_id"].isin(ids)] for name, rows in parts.items()})


def _one(path: str) -> results.Results:
    loaded = results.load(path, tables=("runs", "rounds"))
    if not _is_run(path, loaded.runs):
        shown = ", ".join(loaded.runs["run_id"][:5])
        raise ConfigError(f"RUN: found a folder of {len(loaded.runs)} runs, allowed: one of them, such as {shown}")
    return loaded


def _is_run(path: str, runs: Any) -> bool:
    return len(runs) == 1 and results.split_location(path)[1] == runs["run_id"].iloc[0]


def _join(place: str, name: str) -> str:
    from results import locations

    return locations.join(place, name)
