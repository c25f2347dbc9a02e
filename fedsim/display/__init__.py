"""Output in the terminal and in notebooks: progress, tables of runs, and lists of all there is to choose from."""

from fedsim.display._estimate import estimate_table
from fedsim.display._keys import key_names, key_rows, list_keys, list_kinds
from fedsim.display._live import LiveProgress
from fedsim.display._notebook import NotebookProgress
from fedsim.display._origins import with_origins
from fedsim.display._runs import differences_table, overview_table, run_tables
from fedsim.display._tables import duration, plain_table, size, summary

__all__ = [
    "LiveProgress",
    "NotebookProgress",
    "differences_table",
    "duration",
    "estimate_table",
    "key_names",
    "key_rows",
    "list_keys",
    "list_kinds",
    "overview_table",
    "plain_table",
    "run_tables",
    "size",
    "summary",
    "with_origins",
]
