"""Where a result comes from: the commit of the code and the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import torch


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


def describe_machine() -> str:
    """Processor, cores, GPU and versions in one line, without host names."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{_processor()}, {os.cpu_count()} cores, {gpu}, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
