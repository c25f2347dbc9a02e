"""Results of simulations: Parquet in, dataframes out.

``results.load("runs")`` gives ``.runs``, ``.rounds``, ``.clients`` and ``.classes`` as pandas dataframes.
``results.tables`` makes tables of papers from them; ``results.figures`` draws them and ``results.report`` writes a page
of both: these two are imported on their own, for they take matplotlib with them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from results.errors import DamagedError, LocationError, OwnershipError

if TYPE_CHECKING:
    from results import schema
    from results.frames import Results, load
    from results.locations import split as split_location
    from results.log import read_log
    from results.store import RunStore

__all__ = [
    "DamagedError",
    "LocationError",
    "OwnershipError",
    "Results",
    "RunStore",
    "load",
    "read_log",
    "schema",
    "split_location",
]

#: Modules and names of what is imported when it is first used: pandas and pyarrow take longer than many commands.
_LATER = {
    "Results": ("results.frames", "Results"),
    "RunStore": ("results.store", "RunStore"),
    "load": ("results.frames", "load"),
    "read_log": ("results.log", "read_log"),
    "split_location": ("results.locations", "split"),
}


def __getattr__(name: str) -> Any:
    if name == "schema":
        return importlib.import_module("results.schema")
    if name in _LATER:
        module, attribute = _LATER[name]
        return getattr(importlib.import_module(module), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
