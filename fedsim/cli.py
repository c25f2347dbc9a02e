"""The command line: ``fedsim run | resume | sweep | report | dashboard | partition | list``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

import results
from fedsim import runner
from fedsim.config import Config, load_config
from fedsim.display import LiveProgress, list_keys, plain_table, summary
from fedsim.errors import ConfigError, FedsimError
from fedsim.provenance import of_other_code
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

_SameVersion = Annotated[
    bool, typer.Option("--same-version", help="Run a finished run again if other code computed it; else it is reused.")
]


@app.command()
def run(
    arguments: _Arguments = None,
    fresh: _Fresh = False,
    same_version: _SameVersion = False,
) -> None:
    """Run an experiment, or go on with it where an earlier attempt ended.

    Example: fedsim run rounds=10 partition.name=dirichlet partition.alpha=0.1
    """
    with _errors():
        config = _config(arguments)
        with LiveProgress(_console) as live:
            result = runner.run(config, progress=live.callbacks, fresh=fresh, same_version=same_version)
    _show(result)


@app.command()
def resume(
    path: Annotated[str, typer.Argument(help="Folder of a run, such as runs/RUN_ID.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Of keys that change no result, such as cluster.workers=4."),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Import code that the run's configuration names, package.module:Class.")
    ] = False,
) -> None:
    """Go on with a run that was interrupted, failed or killed.

    Example: fedsim resume runs/RUN_ID
    """
    with _errors(), LiveProgress(_console) as live:
        result = runner.resume(path, overrides or (), trust=trust, progress=live.callbacks)
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

    Example: fedsim sweep sweep.yaml output=s3://bucket/runs concurrent=64
    """
    with _errors():
        from fedsim.sweeps.display import LiveSweep

        with LiveSweep(_console) as live:
            result = run_sweep(file, overrides or (), smoke=smoke, callback=live)
    _console.print(*live.searches(), sep="\n", highlight=False)
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
    """Show every configuration key, under the method, dataset, backbone, ... that it belongs to."""
    _console.print(list_keys())


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
    with _errors():
        from fedsim.dashboard import serve

        code = serve(paths, port=port, open_browser=browser)
    raise SystemExit(code)


@app.command()
def partition(
    arguments: _Arguments = None,
    output: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("partition.png"),
) -> None:
    """Draw which labels each client would have, and how many samples, as a PNG.

    Example: fedsim partition partition.name=dirichlet partition.alpha=0.1 partition.clients=30
    """
    with _errors():
        config = _config(arguments)
        import numpy as np

        from fedsim.data import load_dataset  # slow to import, as are the figures
        from fedsim.data.partition import make_partition
        from results import figures

        dataset = load_dataset(config.data, config.seed)
        split = make_partition(dataset, config.partition, config.seed)
        counts = split.label_counts(dataset.train.labels, len(dataset.classes))
        title = f"{config.data.name}, {config.partition.name}"
        if (alpha := getattr(config.partition, "alpha", None)) is not None:
            title += f" {alpha:g}"
        png = figures.save(figures.label_counts(counts, dataset.classes, title), output)
    sizes, labels = counts.sum(1), (counts > 0).sum(1)
    table = plain_table("", "least", "median", "most")
    for name, values in (("samples a client", sizes), ("labels a client", labels)):
        table.add_row(name, str(values.min()), f"{np.median(values):g}", str(values.max()))
    _console.print(f"{split.clients} clients, {sizes.sum()} training samples, {len(dataset.classes)} classes", table)
    _console.print(f"{png}", soft_wrap=True)


def _draw(loaded: results.Results, path: Path) -> Path:
    from results import figures  # matplotlib is slow to import, and no other command needs it

    return figures.save(figures.accuracy_and_bpp(loaded), path)


def _config(arguments: list[str] | None) -> Config:
    words = arguments or []
    file, overrides = (words[0], words[1:]) if words and "=" not in words[0] else (None, words)
    return load_config(file, overrides)


@contextmanager
def _errors() -> Iterator[None]:
    """Turn errors that a user can mend into one message and exit code 2, and an interrupt into exit code 130."""
    # A batch system ends a job by SIGTERM, a lost connection by SIGHUP: end as on Ctrl-C, and leave no process.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup: what is ignored stays so
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        _fail("interrupted: finished rounds are stored; the same command, without --fresh, goes on", 130)
    except (FedsimError, OSError, results.LocationError, results.DamagedError) as error:
        _fail(f"error: {error}", 2)


def _fail(message: str, code: int) -> NoReturn:
    Console(stderr=True).print(message, soft_wrap=True, markup=False, highlight=False)
    raise SystemExit(code)


def _show(result: runner.RunResult) -> None:
    loaded = result.load()
    if result.reused:
        _console.print("This run had finished before; --fresh runs it again.")
        if of_other_code(result.row):
            code = f"version {result.row['version']}, commit {result.row['git_commit'] or 'unknown'}"
            _console.print(f"It was computed by other code ({code}); --same-version runs it again.", soft_wrap=True)
    _console.print(*summary(loaded), sep="\n")
    _console.print(f"results   {result.path}", soft_wrap=True)
    if "://" not in result.path:
        png = _draw(loaded, Path(result.path) / "report.png")
        _console.print(f"picture   {png}", soft_wrap=True)


def main() -> None:
    """Entry point of the ``fedsim`` command."""
    sys.path.append(os.getcwd())  # for package.module:Class of the user's own; Ray does so for its workers
    sys.exit(app())
