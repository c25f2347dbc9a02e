"""Commands that compute: run, resume, sweep."""

from __future__ import annotations

from typing import Annotated

import typer

from fedsim import runner
from fedsim.cli._app import RUNS, Arguments, LogLevel, Quiet, app, console, errors, read_config, set_output
from fedsim.cli._seeds import Seeds, show_seeds
from fedsim.cli._summary import show_result
from fedsim.config import Config
from fedsim.display import LiveProgress, estimate_table
from fedsim.sweeps import sweep as run_sweep
from fedsim.sweeps.config import load_sweep


@app.command(rich_help_panel=RUNS)
def run(
    arguments: Arguments = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete what is stored of this run and start again.")] = False,
    same_version: Annotated[
        bool,
        typer.Option("--same-version", help="Run a finished run again if other code computed it; else it is reused."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Compute nothing but one client, and show what the run would take.")
    ] = False,
    quiet: Quiet = False,
    log_level: LogLevel = None,
) -> None:
    """Run an experiment, or go on with it where an earlier attempt ended.

    With seeds=3, or seeds=[0,7], it is run with each of these seeds, one after the other.

    Example: fedsim run rounds=10 partition.name=dirichlet partition.alpha=0.1
    """
    with errors():
        set_output(quiet, log_level)
        words, seeds = Seeds.of(arguments)
        config = read_config(words)
        if dry_run:
            from fedsim.engine import estimate  # imports torch

            console.print(estimate_table(config, estimate(config)))
            return
        configs = seeds.each(config)
        done = [_run(config, fresh=fresh, same_version=same_version) for config in configs]
        if len(done) > 1:
            show_seeds(console, done)
            return
    show_result(done[0])


def _run(config: Config, *, fresh: bool, same_version: bool) -> runner.RunResult:
    with LiveProgress(console) as live:
        return runner.run(config, callbacks=[live], fresh=fresh, same_version=same_version)


@app.command(rich_help_panel=RUNS)
def resume(
    path: Annotated[str, typer.Argument(help="Folder of a run, such as runs/RUN_ID, or its URI.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Of keys that change no result, such as cluster.workers=4."),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Import code that the run's configuration names, package.module:Class.")
    ] = False,
    quiet: Quiet = False,
    log_level: LogLevel = None,
) -> None:
    """Go on with a run that was interrupted, failed or killed.

    Example: fedsim resume runs/RUN_ID
    """
    with errors():
        set_output(quiet, log_level)
        with LiveProgress(console) as live:
            result = runner.resume(path, overrides or (), trust=trust, callbacks=[live])
    show_result(result)


@app.command(rich_help_panel=RUNS)
def sweep(
    file: Annotated[
        str, typer.Argument(metavar="SWEEP.yaml", help="A base configuration and the space around it, a file or a URI.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Of the base, or of the sweep, such as search.trials=50."),
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Shrink it to minutes: embedded data and backbone, one round, one seed.")
    ] = False,
    quiet: Quiet = False,
    log_level: LogLevel = None,
) -> None:
    """Run many experiments, or what is not yet finished of them: grids, and searches by Optuna.

    Example: fedsim sweep sweep.yaml output=s3://bucket/runs concurrent=64
    """
    with errors():
        set_output(quiet, log_level)
        load_sweep(file, overrides or (), smoke=smoke)  # what is wrong with it is said before torch is imported
        from fedsim.sweeps.display import LiveSweep

        with LiveSweep(console) as live:
            result = run_sweep(file, overrides or (), smoke=smoke, callbacks=[live])
    console.print(*live.searches(), sep="\n", highlight=False)
    done = len(result.run_ids) - result.failed - result.stopped
    console.print(
        f"runs      {done} finished ({result.reused} of them before), {result.stopped} stopped early, "
        f"{result.failed} failed",
        f"results   {result.path}",
        sep="\n",
        soft_wrap=True,
        highlight=False,
    )
    if result.failed:
        raise SystemExit(1)
