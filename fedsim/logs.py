"""Log records of this process and of those that Ray starts for it."""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

#: Variable of the environment with the least level of records to show, such as DEBUG; processes of Ray inherit it.
LOG_LEVEL = "FEDSIM_LOG_LEVEL"


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to whatever standard error is at the time, and so among the prints of a client while it is trained."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def show_records() -> None:
    """Show records from the level of :data:`LOG_LEVEL` on, where it is set; else they are as Python has them."""
    if level := os.environ.get(LOG_LEVEL):
        logging.basicConfig(level=level, handlers=[_Handler()], format="%(levelname)s %(name)s: %(message)s")


def level_of_ray() -> int:
    """The level of Ray's own records in this process."""
    level: int = getattr(logging, os.environ.get(LOG_LEVEL, "ERROR"))
    return level
