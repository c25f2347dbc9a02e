"""The values of a run as loggers of other projects want them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import results
from fedsim.callbacks._callback import Run
from fedsim.config import NO_RESULT


def metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row, without keys and missing values."""
    return {
        name: float(value)
        for name, value in row.items()
        if name not in ("round", "seed")
        and isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
    }


def parameters(run: Run) -> dict[str, Any]:
    """The configuration by dotted keys, without those that change no result."""
    found: dict[str, Any] = {}

    def flatten(prefix: str, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, Mapping):
                flatten(f"{prefix}{key}.", value)
            elif value is not None:
                found[prefix + key] = value if isinstance(value, (bool, int, float, str)) else str(value)

    content = run.config.result_keys()
    flatten("", {key: value for key, value in content.items() if key not in NO_RESULT})
    return found


@contextmanager
def report(run: Run) -> Iterator[Path | None]:
    """A folder of the run's report, until the end of the context; None for a run without rounds."""
    loaded = results.load(run.path)
    if loaded.rounds.empty:
        yield None
        return
    from results import report as pages  # slow to import

    with TemporaryDirectory(prefix="fedsim-report-") as folder:
        pages.write(loaded, folder, title=run.config.run_id)
        yield Path(folder)
