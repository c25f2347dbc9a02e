"""Ray clusters of several nodes on this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from tests.processes import commands, kill, ray_processes, wait_for_exit

MEMORY = 100_000_000  # of a node's object store, bytes
_RAY = str(Path(sys.executable).with_name("ray"))
_RAYLET = b"/raylet/raylet"


class LocalCluster:
    """A head and other nodes, each with its own daemons; all of them are killed on leaving the context.

    Attributes:
        address: of the head.
        environment: variables of a command that uses the cluster.
        folder: of its files.
    """

    def __enter__(self) -> LocalCluster:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"
        self.environment = {"RAY_ADDRESS": self.address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 32}
        self.folder = tempfile.mkdtemp(prefix="ray-")  # Ray's sockets need a short path
        self._before = ray_processes()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for mark in (b"/monitor.py", _RAYLET, b""):  # the autoscaler first: it would add nodes
            kill(pid for pid, command in self._daemons().items() if mark in command)
        assert not wait_for_exit(ray_processes() - self._before, 20)
        shutil.rmtree(self.folder)

    def start_head(self, variables: dict[str, str] | None = None, **options: object) -> None:
        """Start the head, by options of ``ray start``; a killed node is noticed after 5 seconds."""
        own = {"port": self._port, "temp-dir": self.folder, "include-dashboard": "false"}
        self._start(["--head"], own | options, {"RAY_health_check_period_ms": "1000"} | (variables or {}))

    def add_node(self, ip: str, **options: object) -> None:
        """Start another node, on another address of the loopback device."""
        own = {"address": self.address, "node-ip-address": ip}
        self._start([], own | options, {})

    def nodes(self) -> list[int]:
        """Process ids of the raylets of all nodes but the head."""
        return [pid for pid, command in self._daemons().items() if _RAYLET in command and b"--head" not in command]

    def _start(self, flags: list[str], options: dict[str, object], variables: dict[str, str]) -> None:
        options = {"object-store-memory": MEMORY} | options
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        subprocess.run(
            [_RAY, "start", *flags, *arguments],
            env=os.environ | self.environment | {"RAY_USAGE_STATS_ENABLED": "0"} | variables,
            check=True,
            capture_output=True,
        )

    def _daemons(self) -> dict[int, bytes]:
        return {pid: command for pid, command in commands().items() if self.folder.encode() in command}
