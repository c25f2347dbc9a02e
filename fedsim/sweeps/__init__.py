"""Sweeps: many runs over any configuration keys, on Ray Tune, searched by Optuna."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fedsim.callbacks import Callback
from fedsim.sweeps.config import load_sweep

if TYPE_CHECKING:
    from fedsim.sweeps.tracker import SweepResult


def sweep(
    source: Mapping[str, Any] | str | os.PathLike[str],
    overrides: Iterable[str] = (),
    *,
    smoke: bool = False,
    callbacks: Iterable[Callback] = (),
) -> SweepResult:
    """Run a sweep, or what is not yet finished of it.

    Runs that the results hold as finished are not run again; others go on after their last finished round. A failed
    run is started again ``retries`` times, then recorded with its error, and the sweep goes on; the next call tries it
    anew.

    Args:
        source: a nested mapping, or the path of a YAML file.
        overrides: ``"key=value"``; keys of the sweep such as ``search.trials``, all others of ``base``.
        smoke: shrink it to minutes on two cores, with embedded data and backbone.
        callbacks: told of its runs as they go on, after those of the ``log`` group of ``base``.

    Raises:
        ConfigError: the sweep, or a configuration in it, is invalid.
        CallbackError: a callback raised; the sweep went on without it to its end.
        KeyboardInterrupt: interrupted; the same call goes on.
    """
    from fedsim.sweeps.runner import run_sweep  # imports Ray Tune

    return run_sweep(load_sweep(source, overrides, smoke=smoke), callbacks)
