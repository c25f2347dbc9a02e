"""Helpers for tests on the shared Ray cluster."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest


def processes(name: str) -> list[int]:
    """Process ids of the Ray actors whose class is ``name``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if command.startswith(f"ray::{name}".encode()):
                found.append(int(entry.name))
    return found


@pytest.fixture
def kill_actor():
    """Kills one process of an actor class with SIGKILL, as an out-of-memory killer does; returns its process id."""

    def kill(name: str) -> int:
        pid = processes(name)[0]
        os.kill(pid, signal.SIGKILL)
        return pid

    return kill
