"""Output in the terminal and in notebooks: a run while it goes on, tables at its end, and the list of all keys."""

from fedsim.display._keys import list_keys
from fedsim.display._live import LiveProgress
from fedsim.display._notebook import NotebookProgress
from fedsim.display._tables import duration, plain_table, size, summary

__all__ = ["LiveProgress", "NotebookProgress", "duration", "list_keys", "plain_table", "size", "summary"]
