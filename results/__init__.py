"""Results of simulations: Parquet in, dataframes out.

``results.load("runs")`` gives ``.runs``, ``.rounds`` and ``.clients`` as pandas dataframes. ``results.tables``
makes tables of papers from them; ``results.figures`` draws them and ``results.report`` writes a page of both: these two
are imported on their own, for they take matplotlib with them.
"""

from results import schema
from results.errors import DamagedError, LocationError, OwnershipError
from results.frames import Results, load
from results.locations import split as split_location
from results.store import RunStore

__all__ = [
    "DamagedError",
    "LocationError",
    "OwnershipError",
    "Results",
    "RunStore",
    "load",
    "schema",
    "split_location",
]
