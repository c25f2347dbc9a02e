"""Prefix features of a node, computed once and memory-mapped by every process that wants them.

A store is one folder a key, and the key is a digest of all that the features follow from: the images, their
preprocessing and the frozen weights. Rows are computed in blocks. A block is locked while it is computed, so that
processes share the work and none is done twice; locks end with their process, and only whole blocks are marked as done.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: Rows computed at a time: fixed, so that a row's features do not depend on who computes them.
BLOCK = 256

_log = logging.getLogger(__name__)

#: Features of rows (int64), in their stored dtype, and names of those that could not be decoded.
Compute = Callable[[np.ndarray], tuple[np.ndarray, list[str]]]


@dataclass(frozen=True)
class Built:
    """The work of a process to complete a store.

    Attributes:
        rows: rows that it computed itself; 0 when others had done everything.
        corrupt: names of all undecodable images of the store, whoever found them.
    """

    rows: int
    corrupt: list[str]


class FeatureStore:
    """Features of ``rows`` images in a folder that processes share.

    Args:
        folder: of this store alone; its name is the key.
        rows: number of images.
        shape: of one image's features.
        dtype: of the stored features, one that NumPy knows.
    """

    def __init__(self, folder: Path, rows: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._blocks = -(-rows // BLOCK)
        self._corrupt = folder / "corrupt.jsonl"
        # One descriptor a store: closing any other one of this file would end this process's locks.
        self._marks = os.open(folder / "done", os.O_RDWR | os.O_CREAT, 0o644)
        weakref.finalize(self, os.close, self._marks)
        fcntl.flock(self._marks, fcntl.LOCK_SH)  # in use; :func:`make_room` leaves it alone
        os.utime(folder)
        os.truncate(self._marks, self._blocks)
        with open(folder / "features", "ab") as file:
            os.truncate(file.fileno(), rows * int(np.prod(shape)) * dtype.itemsize)
        self._features = np.memmap(folder / "features", dtype, "r+", shape=(rows, *shape))

    def build(self, compute: Compute) -> Built:
        """Complete the store together with all other processes that are at it."""
        computed = 0
        waiting = [block for block in range(self._blocks) if not self._done(block)]
        for patient in (False, True):  # first what nobody is at, then what others have not finished or left undone
            left = []
            for block in waiting:
                with self._locked(block, patient) as mine:
                    if mine and not self._done(block):
                        rows = np.arange(block * BLOCK, min((block + 1) * BLOCK, len(self._features)))
                        self._fill(block, rows, *compute(rows))
                        computed += len(rows)
                    elif not mine:
                        left.append(block)
            waiting = left
        return Built(computed, self._read_corrupt())

    def read(self, rows: np.ndarray) -> np.ndarray:
        """A copy of the features of ``rows``."""
        features: np.ndarray = self._features[rows]
        return features

    def _fill(self, block: int, rows: np.ndarray, features: np.ndarray, corrupt: list[str]) -> None:
        self._features[rows[0] : rows[-1] + 1] = features
        self._features.flush()
        if corrupt:
            with open(self._corrupt, "a") as file:
                file.write(json.dumps({"block": block, "names": corrupt}) + "\n")
        os.pwrite(self._marks, b"\x01", block)

    def _done(self, block: int) -> bool:
        return os.pread(self._marks, 1, block) == b"\x01"

    @contextmanager
    def _locked(self, block: int, patient: bool) -> Iterator[bool]:
        try:
            fcntl.lockf(self._marks, fcntl.LOCK_EX | (0 if patient else fcntl.LOCK_NB), 1, block)
        except (BlockingIOError, PermissionError):
            yield False
            return
        try:
            yield True
        finally:
            fcntl.lockf(self._marks, fcntl.LOCK_UN, 1, block)

    def _read_corrupt(self) -> list[str]:
        if not self._corrupt.exists():
            return []
        found = {row["block"]: row["names"] for row in map(json.loads, self._corrupt.read_text().splitlines())}
        return [name for block in sorted(found) for name in found[block]]


def make_room(root: Path, needed: int, limit: int, keep: str) -> bool:
    """Delete the stores that were opened longest ago until one of ``needed`` bytes fits.

    Args:
        root: folder of all stores.
        needed: size of the new store, bytes.
        limit: of all stores together, bytes.
        keep: key of the new store, which may exist in part.

    Returns:
        Whether it fits, within the limit and on the disk. Stores in use are not deleted.
    """
    if needed > limit:
        return False
    root.mkdir(parents=True, exist_ok=True)
    with open(root / "lock", "w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        others = [entry for entry in root.iterdir() if entry.is_dir() and entry.name != keep]
        used = sum(_size(entry) for entry in others)
        for entry in sorted(others, key=lambda entry: entry.stat().st_mtime):
            if used + needed <= limit:
                break
            size = _size(entry)
            if _delete_unused(entry):
                used -= size
                _log.info("deleted %s, %d bytes of prefix features", entry, size)
        own = _size(root / keep)
        return used + needed <= limit and needed - own <= shutil.disk_usage(root).free


def _size(folder: Path) -> int:
    """Bytes on disk; a store that is still being filled takes less than its length."""
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
