"""Commands on a terminal of their own, as a user sees them."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

FEDSIM = str(Path(sys.executable).with_name("fedsim"))


def environment() -> dict[str, str]:
    """The variables for a command that starts a cluster of its own, whatever else is open here."""
    return {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | {
        "COLUMNS": "120",
        "NO_COLOR": "1",
    }


class Terminal:
    """A command on a terminal of its own, whose Ctrl-C reaches the whole process group, as in a shell."""

    def __init__(self, command: list[str], cwd: Path, environment: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=environment,
            preexec_fn=_default_signals,
        )
        os.close(slave)
        self.output = b""

    def read_until(self, text: bytes, seconds: float = 120) -> None:
        """Read what it prints until ``text`` appears."""
        while text not in self.output:
            assert select.select([self._master], [], [], seconds)[0], f"no {text!r} in {self.output[-500:]!r}"
            try:
                read = os.read(self._master, 65536)
            except OSError:  # the terminal was closed
                read = b""
            assert read, f"ended without {text!r}: {self.output[-500:]!r}"
            self.output += read

    def signal(self, number: int) -> None:
        """Send a signal to the process group."""
        os.killpg(self.process.pid, number)

    def wait(self, seconds: float = 60) -> int:
        """Its exit code; what it prints meanwhile is read."""
        descriptor = os.pidfd_open(self.process.pid)
        while not select.select([descriptor], [], [], 0)[0]:
            ready = select.select([self._master, descriptor], [], [], seconds)[0]
            assert ready, "still running"
            if self._master in ready:
                try:
                    self.output += os.read(self._master, 65536)
                except OSError:
                    break
        os.close(descriptor)
        return self.process.wait(seconds)

    def close(self) -> None:
        """Kill what is left."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._master)


def _default_signals() -> None:
    """Undo what nohup or a shell's background job ignores, which children would inherit."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
