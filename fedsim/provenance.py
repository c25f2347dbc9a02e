"""Provenance of a result: the commit of the code, the command and the machine."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import stat
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

_READ = 1 << 16  # bytes at both ends of a file
_OPENED = 64  # files of a folder whose content is looked at, evenly spread


def git_commit() -> str | None:
    """Commit of the checkout that this code runs from, with ``+`` if it was changed since; None outside a checkout."""
    git = ["git", "-C", str(Path(__file__).resolve().parent)]
    try:
        # Only a repository that tracks this file is the checkout: an environment may lie inside another one.
        _output([*git, "ls-files", "--error-unmatch", Path(__file__).name])
        changed = _output([*git, "status", "--porcelain", "--untracked-files=no"])
        return _output([*git, "rev-parse", "HEAD"]) + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def of_other_code(row: Mapping[str, Any]) -> bool:
    """Whether a row of the ``runs`` table comes from another version or commit than this code."""
    return (row["version"], row["git_commit"]) != (version("deltamask"), git_commit())


def describe_machine() -> str:
    """Processor, cores, GPU and versions in one line, without host names."""
    import torch  # slow to import, and naming the command or the commit needs none of it

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{_processor()}, {os.cpu_count()} cores, {gpu}, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def command_line() -> str:
    """The command that started this process, without the folders of its program."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def content_digest(path: str) -> str | None:
    """A digest of a file's content, or of the names and sizes of all files in a folder and the content of some.

    Where they are does not count. Of a large file the two ends do. None where nothing can be read, such as on a machine
    that only submits.
    """
    place = Path(path).expanduser()
    try:
        return _content_digest(place, place.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=1000)  # a sweep validates thousands of configurations with the same path
def _content_digest(place: Path, modified: int) -> str:
    found = [os.path.join(base, name) for base, _, names in os.walk(place) for name in names] or [str(place)]
    files = sorted(found)
    state = hashlib.blake2b(digest_size=8)
    for index, file in enumerate(files):
        kind, size = os.stat(file).st_mode, os.stat(file).st_size
        state.update(f"{os.path.relpath(file, place)} {size}\n".encode())
        if index % -(-len(files) // _OPENED) == 0 and stat.S_ISREG(kind):  # opening a pipe would wait for ever
            with open(file, "rb") as opened:
                state.update(opened.read(_READ))
                opened.seek(max(_READ, size - _READ))
                state.update(opened.read(_READ))
    return state.hexdigest()


def source_digest(name: str) -> str | None:
    """A digest of the source of the module that ``package.module:Class`` names; None where it has no file."""
    module = sys.modules.get(name.partition(":")[0])
    try:
        return hashlib.blake2b(Path(getattr(module, "__file__", None) or "").read_bytes(), digest_size=8).hexdigest()
    except OSError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
