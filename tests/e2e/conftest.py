"""Running the command line as a user does."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.terminal import FEDSIM, Terminal, environment


@pytest.fixture
def terminal(tmp_path) -> Iterator[Callable[..., Terminal]]:
    """Starts ``fedsim`` with arguments on a terminal, in a folder of the test; ``variables`` are set besides."""
    opened = []

    def start(*arguments: str, **variables: str) -> Terminal:
        opened.append(Terminal([FEDSIM, *arguments], tmp_path, environment() | variables))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.fixture
def cli(tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``fedsim`` with arguments and without a terminal, in a folder of the test."""

    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([FEDSIM, *arguments], cwd=tmp_path, capture_output=True, text=True, env=environment())
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run
