"""Results of simulations: Parquet in, dataframes out.

``results.load("runs")`` gives ``.runs``, ``.rounds`` and ``.clients`` as pandas dataframes. ``results.tables``
makes tables of papers from them; ``results.figures`` draws them and ``results.report`` writes a page of both: these two
are imported on their own, for they take matplotlib with them.
"""

from results import schema
from results.frames import Results, load
from results.store import LocationError, RunStore

__all__ = ["LocationError", "Results", "RunStore", "load", "schema"]
