"""Looking at processes, and waiting for their end without sleeping."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path


def commands() -> dict[int, bytes]:
    """Command line, by its id, of every process that these tests started; others may run theirs on this machine."""
    mark, found = f"FEDSIM_CACHE={os.environ['FEDSIM_CACHE']}\0".encode(), {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes()
            except OSError:  # of another user, or ended meanwhile
                continue
    return found


def actors(name: str) -> list[int]:
    """Process ids of the Ray actors whose class is ``name``."""
    return [pid for pid, command in commands().items() if command.startswith(f"ray::{name}".encode())]


def ray_processes() -> set[int]:
    """All Ray processes of these tests: daemons and workers."""
    marks = (b"/ray/core/src/ray/", b"/ray/_private/")
    return {pid for pid, c in commands().items() if c.startswith(b"ray::") or any(mark in c for mark in marks)}


def wait_for_exit(pids: Iterable[int], seconds: float) -> set[int]:
    """Those of ``pids`` that are still running after at most ``seconds`` each."""
    left = set()
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        if not select.select([descriptor], [], [], seconds)[0]:
            left.add(pid)
        os.close(descriptor)
    return left


def family(*pids: int) -> list[int]:
    """Some processes and all that they started, and so on, as far as these have not been orphaned."""
    found = list(pids)
    for pid in found:
        with contextlib.suppress(OSError):  # ended meanwhile
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def kill(pids: Iterable[int]) -> None:
    """Kill processes and all that they started, as the loss of a machine does to a node's daemon and workers."""
    doomed = family(*pids)
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not wait_for_exit(doomed, 20)


def wait_until(condition: Callable[[], object], seconds: float) -> None:
    """Look every tenth of a second until ``condition`` holds, which it must within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds:g} seconds"
        time.sleep(0.1)
