"""Output in the terminal: progress while a run goes on, tables of runs, and lists of all there is to choose from."""

from fedsim.display._estimate import estimate_table
from fedsim.display._keys import key_names, list_keys, list_kinds
from fedsim.display._live import LiveProgress, plain_table, size, summary
from fedsim.display._origins import with_origins
from fedsim.display._runs import differences_table, overview_table, run_tables

__all__ = [
    "LiveProgress",
    "differences_table",
    "estimate_table",
    "key_names",
    "list_keys",
    "list_kinds",
    "overview_table",
    "plain_table",
    "run_tables",
    "size",
    "summary",
    "with_origins",
]
