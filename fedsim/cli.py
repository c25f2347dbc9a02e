"""The command line: ``fedsim run | resume | sweep | report | partition | list``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import results
from fedsim import runner
from fedsim.config import Config, MethodConfig, load_config
from fedsim.display import LiveProgress, summary
from fedsim.errors import ConfigError, FedsimError
from fedsim.sweeps import sweep as run_sweep

app = typer.Typer(
    help="Simulation of communication-efficient federated fine-tuning on Ray.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_console = Console()

_Arguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CONFIG.yaml] [KEY=VALUE]...", help="A configuration file, then dotted overrides."),
]
_Fresh = Annotated[bool, typer.Option("--fresh", help="Delete what is stored of this run and start again.")]


@app.command()
def run(
    arguments: _Arguments = None,
    fresh: _Fresh = False,
) -> None:
    """Run an experiment, or go on with it where an earlier attempt ended.

    Example: fedsim run rounds=10 data.partition=dirichlet data.alpha=0.1
    """
    with _errors():
        config = _config(arguments)
        with LiveProgress(_console) as live:
            result = runner.run(config, progress=live.callbacks, fresh=fresh)
    _show(result)


@app.command()
def resume(path: Annotated[str, typer.Argument(help="Folder of a run, such as runs/RUN_ID.")]) -> None:
    """Go on with a run that was interrupted, failed or killed."""
    with _errors(), LiveProgress(_console) as live:
        result = runner.resume(path, progress=live.callbacks)
    _show(result)


@app.command()
def sweep(
    file: Annotated[str, typer.Argument(metavar="SWEEP.yaml", help="A base configuration and the space around it.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Of the base, or of the sweep, such as search.trials=50."),
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Shrink it to minutes: embedded data and backbone, one round, one seed.")
    ] = False,
) -> None:
    """Run many experiments, or what is not yet finished of them: grids, and searches by Optuna.

    Example: fedsim sweep pipelines/sweep.yaml output=s3://bucket/runs concurrent=64
    """
    with _errors():
        from fedsim.sweeps.display import LiveSweep

        with LiveSweep(_console) as live:
            result = run_sweep(file, overrides or (), smoke=smoke, watcher=live)
    done = len(result.run_ids) - result.failed - result.stopped
    _console.print(
        f"runs      {done} finished ({result.reused} of them before), {result.stopped} stopped early, "
        f"{result.failed} failed",
        f"results   {result.path}",
        sep="\n",
        soft_wrap=True,
        highlight=False,
    )
    if result.failed:
        raise SystemExit(1)


@app.command("list")
def list_() -> None:
    """Show the configuration keys, and the methods, datasets, backbones, codecs and more to choose from."""
    from fedsim.compression import COMPRESSORS
    from fedsim.data import DATASETS, PARTITIONERS
    from fedsim.methods import CODECS, HEADS, METHODS
    from fedsim.models import BACKBONES

    keys = _plain_table("key", "default", "what it is")
    for key, default, description in Config.describe_keys():
        keys.add_row(key, str(default), description)
    keys.add_row("method.name", MethodConfig.model_fields["name"].default, "method; see below")
    for key, default, description in _member_keys(METHODS, {"name", "compressor"}):
        keys.add_row(f"method.{key}", default, description)
    keys.add_row("method.compressor.name", "none", "compressor of dense updates; see below")
    for key, default, description in _member_keys(COMPRESSORS, {"name"}):
        keys.add_row(f"method.compressor.{key}", default, description)
    names = _plain_table("key", "name", "what it is")
    registries: list[Any] = [METHODS, DATASETS, PARTITIONERS, BACKBONES, HEADS, CODECS, COMPRESSORS]
    for registry in registries:
        for index, member in enumerate(registry):
            names.add_row(registry.field if index == 0 else "", member.name, member.summary)
    _console.print(keys, "", names)


@app.command()
def report(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Folders of runs, or of single runs, local or URIs.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="Folder to write; report in the first PATH when not given.")
    ] = None,
) -> None:
    """Write tables and figures of runs as one HTML page that needs nothing else, and the figures as PNG.

    Example: fedsim report runs
    """
    with _errors():
        if output is None and "://" in paths[0]:
            raise ConfigError("--output: found none, allowed: a local folder, since PATH is a URI")
        from results import report as pages  # slow to import, as are the figures

        try:
            html = pages.write(results.load(paths), output or Path(paths[0]) / "report")
        except ValueError as error:  # such as the same run twice
            raise ConfigError(str(error)) from error
    _console.print(f"{html}", soft_wrap=True)


@app.command()
def partition(
    arguments: _Arguments = None,
    output: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("partition.png"),
) -> None:
    """Draw which labels each client would have, and how many samples, as a PNG.

    Example: fedsim partition data.partition=dirichlet data.alpha=0.1 data.clients=30
    """
    with _errors():
        config = _config(arguments)
        from fedsim.data import load_dataset, make_partition  # slow to import, as are the figures
        from results import figures

        dataset = load_dataset(config.data)
        split = make_partition(dataset.train, config.data, config.seed)
        counts = split.label_counts(dataset.train.labels, len(dataset.classes))
        title = f"{config.data.name}, {config.data.partition}"
        if config.data.partition in ("dirichlet", "quantity"):
            title += f" {config.data.alpha:g}"
        png = figures.save(figures.label_counts(counts, dataset.classes, title), output)
    sizes, labels = counts.sum(1), (counts > 0).sum(1)
    table = _plain_table("", "least", "median", "most")
    for name, values in (("samples a client", sizes), ("labels a client", labels)):
        table.add_row(name, str(values.min()), f"{np.median(values):g}", str(values.max()))
    _console.print(f"{split.clients} clients, {sizes.sum()} training samples, {len(dataset.classes)} classes", table)
    _console.print(f"{png}", soft_wrap=True)


def _member_keys(registry: Iterable[Any], left_out: set[str]) -> Iterator[tuple[str, str, str]]:
    """Keys that members of a registry add to their group: name, default, and whose it is and what."""
    owners: dict[tuple[str, str, str], list[str]] = {}
    for member in registry:
        for key, info in member.Params.model_fields.items():
            if key not in left_out:
                owners.setdefault((key, str(info.default), info.description or ""), []).append(member.name)
    for (key, default, description), names in owners.items():
        yield key, default, f"{', '.join(names)}: {description}"


def _draw(loaded: results.Results, path: Path) -> Path:
    from results import figures  # matplotlib is slow to import, and no other command needs it

    return figures.save(figures.accuracy_and_bpp(loaded), path)


def _plain_table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _config(arguments: list[str] | None) -> Config:
    words = arguments or []
    file, overrides = (words[0], words[1:]) if words and "=" not in words[0] else (None, words)
    return load_config(file, overrides)


@contextmanager
def _errors() -> Iterator[None]:
    """Turn errors that a user can mend into one message and exit code 2, and an interrupt into exit code 130."""
    # A batch system ends a job by SIGTERM, a lost connection by SIGHUP: end as on Ctrl-C, and leave no process.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        _fail("interrupted: finished rounds are stored; the same command, without --fresh, goes on", 130)
    except (FedsimError, OSError, results.LocationError) as error:
        _fail(f"error: {error}", 2)


def _fail(message: str, code: int) -> NoReturn:
    Console(stderr=True).print(message, soft_wrap=True, markup=False, highlight=False)
    raise SystemExit(code)


def _show(result: runner.RunResult) -> None:
    loaded = result.load()
    if result.reused:
        _console.print("This run had finished before; --fresh runs it again.")
    _console.print(*summary(loaded), sep="\n")
    _console.print(f"results   {result.path}", soft_wrap=True)
    if "://" not in result.path:
        png = _draw(loaded, Path(result.path) / "report.png")
        _console.print(f"picture   {png}", soft_wrap=True)


def main() -> None:
    """Entry point of the ``fedsim`` command."""
    sys.path.append(os.getcwd())  # for method.name=package.module:Class of the user's own; Ray does so for its workers
    sys.exit(app())
