"""Output in the terminal: a live line while a run goes on, tables at its end, and the list of all keys."""

from fedsim.display._keys import list_keys
from fedsim.display._live import LiveProgress, plain_table, size, summary

__all__ = ["LiveProgress", "list_keys", "plain_table", "size", "summary"]
