"""Helpers for tests on the shared Ray cluster."""

from __future__ import annotations

import os
import signal

import pytest

from tests.processes import actors


@pytest.fixture
def kill_actor():
    """Kills one process of an actor class with SIGKILL, as an out-of-memory killer does; returns its process id."""

    def kill(name: str) -> int:
        pid = actors(name)[0]
        os.kill(pid, signal.SIGKILL)
        return pid

    return kill
