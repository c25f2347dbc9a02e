"""Room for stores of prefix features: those that were opened longest ago make place for new ones."""

from __future__ import annotations

import errno
import fcntl
import logging
import shutil
import warnings
from pathlib import Path

import numpy as np

from fedsim.features import _store
from fedsim.features._store import BLOCK, Compute, FeatureStore, lock

_log = logging.getLogger(__name__)


def open_store(
    root: Path,
    key: str,
    rows: int,
    shape: tuple[int, ...],
    dtype: np.dtype,
    compute: Compute,
    limit: int,
    block: int = BLOCK,
) -> FeatureStore | None:
    """A store with all its space reserved; for that, those that were opened longest ago are deleted.

    Args:
        root: folder of all stores.
        key: of the store, which may exist in part.
        rows, shape, dtype, compute, block: see :class:`FeatureStore`.
        limit: of all stores together, bytes.

    Returns:
        The store, or None where it does not fit, within the limit or on the disk, or where a process that hangs keeps
        others from making one. Stores in use are not deleted.

    Raises:
        OSError: the folder is another user's, or cannot be made.
    """
    needed = rows * int(np.prod(shape)) * dtype.itemsize
    if needed > limit:
        return None
    root.mkdir(parents=True, exist_ok=True)
    with open(root / "lock", "a") as guard:
        if not lock(lambda: fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB), _store.PATIENCE_SECONDS):
            warnings.warn(f"{guard.name}: another process has held it for {_store.PATIENCE_SECONDS:g} s", stacklevel=2)
            return None
        others = [entry for entry in root.iterdir() if entry.is_dir() and entry.name != key]
        used = sum(_size(entry) for entry in others)
        for entry in sorted(others, key=lambda entry: entry.stat().st_mtime):
            if used + needed <= limit and needed - _size(root / key) <= shutil.disk_usage(root).free:
                break
            size = _size(entry)
            if _delete_unused(entry):
                used -= size
                _log.info("deleted %s, %d bytes of prefix features", entry, size)
        if used + needed > limit:
            return None
        try:
            return FeatureStore(root / key, rows, shape, dtype, compute, block)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            shutil.rmtree(root / key, ignore_errors=True)  # nobody else can have opened it: they wait for the guard
            return None


def _size(folder: Path) -> int:
    """Bytes on disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.glob("*"))


def _delete_unused(folder: Path) -> bool:
    try:
        with open(folder / "done") as marks:
            fcntl.flock(marks, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass  # left by a process that was killed while it made the folder
    shutil.rmtree(folder, ignore_errors=True)
    return True
