"""Log records: shown from a level on, on whatever standard error is at the time."""

import contextlib
import io
import logging

import pytest

from fedsim.engine._output import named_output
from fedsim.logs import LOG_LEVEL, level_of_ray, show_records


@pytest.fixture
def root(monkeypatch):
    root, level = logging.getLogger(), logging.getLogger().level
    monkeypatch.setattr(root, "handlers", [])
    yield root
    root.setLevel(level)


def test_records_of_a_client_are_among_its_prints(root, monkeypatch):
    monkeypatch.setenv(LOG_LEVEL, "INFO")
    show_records()
    assert level_of_ray() == logging.INFO
    stream = io.StringIO()
    with contextlib.redirect_stderr(stream), named_output("client 3") as kept:
        logging.getLogger("mine").info("so far so good")
        logging.getLogger("mine").debug("not this")
    assert "".join(kept) == stream.getvalue() == "client 3 | INFO mine: so far so good\n"


def test_without_a_level_nothing_is_changed(root, monkeypatch):
    monkeypatch.delenv(LOG_LEVEL, raising=False)
    show_records()
    assert root.handlers == []
    assert level_of_ray() == logging.ERROR
