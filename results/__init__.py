"""Results of simulations: Parquet in, dataframes out.

``results.load("runs")`` gives ``.runs``, ``.rounds`` and ``.clients`` as pandas dataframes.
"""

from results import figures, schema
from results.frames import Results, load
from results.store import RunStore

__all__ = ["Results", "RunStore", "figures", "load", "schema"]
