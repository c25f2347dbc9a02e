"""Log records: shown from a level on, on whatever standard error is at the time."""

import contextlib
import io
import logging

from fedsim.engine._output import named_output
from fedsim.logs import LOG_LEVEL, level_of_ray, show_records


@contextlib.contextmanager
def without_handlers():
    """The root logger as in a new process; pytest gives it handlers of its own for each test."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    root.handlers = []
    yield root
    root.handlers = handlers
    root.setLevel(level)


def test_records_of_a_client_are_among_its_prints(monkeypatch):
    monkeypatch.setenv(LOG_LEVEL, "INFO")
    stream = io.StringIO()
    assert level_of_ray() == logging.INFO
    with without_handlers(), contextlib.redirect_stderr(stream), named_output("client 3") as kept:
        show_records()
        logging.getLogger("mine").info("so far so good")
        logging.getLogger("mine").debug("not this")
    assert "".join(kept) == stream.getvalue() == "client 3 | INFO mine: so far so good\n"


def test_without_a_level_nothing_is_changed(monkeypatch):
    monkeypatch.delenv(LOG_LEVEL, raising=False)
    with without_handlers() as root:
        show_records()
        assert root.handlers == []
    assert level_of_ray() == logging.ERROR
