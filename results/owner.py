"""The owner of a run: the process that last took it writes there, and no other.

On a local filesystem a lock keeps a second process out from the start. Where there are no locks, such as on an object
store, a file names the owner by a token; whoever comes later puts its own there, and the earlier one finds that out
before its next write.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import secrets
import warnings
from datetime import datetime, timezone
from typing import BinaryIO

from pyarrow import fs

from results import locations
from results.errors import OwnershipError

_FILE, _LOCK = "owner.json", ".lock"
_BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


class Owner:
    """A process as the owner of a run.

    Args:
        filesystem: where the run is.
        path: its folder there.
        location: its folder as the user wrote it.

    Attributes:
        token: names the process in what it writes, 8 hex digits.
        held: whether it has taken the run and not let go.
    """

    def __init__(self, filesystem: fs.FileSystem, path: str, location: str) -> None:
        self._fs, self._path, self._location = filesystem, path, location
        self.token = secrets.token_hex(4)
        self.held = False
        self._lock: BinaryIO | None = None

    def take(self) -> None:
        """Become the owner.

        Raises:
            OwnershipError: on a local filesystem, another process is the owner and still there.
        """
        if self.held:
            return
        if isinstance(self._fs, fs.LocalFileSystem):
            self._fs.create_dir(self._path, recursive=True)
            self._lock = self._locked()
        self.held = True
        note = {"token": self.token, "host": platform.node(), "pid": os.getpid(), "since": _now()}
        self._write(json.dumps(note).encode())

    def check(self) -> None:
        """Make sure that this process, if it took the run, still is the owner.

        Raises:
            OwnershipError: another process took it over.
        """
        if not self.held:
            return
        data = locations.read(self._fs, f"{self._path}/{_FILE}")
        try:
            note = json.loads(data or b"{}")
        except ValueError:
            note = {}
        if note.get("token") != self.token:
            who = f"process {note['pid']} on {note['host']} took it over at {note['since']}" if note else "it is gone"
            raise OwnershipError(f"{self._location}: {who}; this process writes nothing more there")

    def release(self) -> None:
        """Let other processes take the run."""
        self.held = False
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _locked(self) -> BinaryIO | None:
        lock = open(f"{self._path}/{_LOCK}", "wb")  # noqa: SIM115 - held until release
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            if error.errno in _BUSY:
                raise OwnershipError(f"{self._location}: another process is writing this run") from error
            warnings.warn(
                f"{self._location}: its filesystem has no locks ({error.strerror}); of two processes that write one "
                "run, the later one wins",
                stacklevel=2,
            )
            return None
        return lock

    def _write(self, data: bytes) -> None:
        locations.write(self._fs, f"{self._path}/{_FILE}", data, f"{self._path}/.{_FILE}.{self.token}.tmp")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
