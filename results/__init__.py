"""Results of simulations: Parquet in, dataframes out.

``results.load("runs")`` gives ``.runs``, ``.rounds`` and ``.clients`` as pandas dataframes. ``results.figures`` draws
them; it is imported on its own, for it takes matplotlib with it.
"""

from results import schema
from results.frames import Results, load
from results.store import LocationError, RunStore

__all__ = ["LocationError", "Results", "RunStore", "load", "schema"]
