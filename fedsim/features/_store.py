"""Prefix features of a node, computed once and memory-mapped by every process that wants them.

A store is one folder a key, and the key is a digest of all that the features follow from: the images, their
preprocessing and the frozen weights. Rows are computed in blocks. A block is locked while it is computed, so that
processes share the work and none is done twice; locks end with their process, and only whole blocks are marked as done.
A process that holds a lock for too long is no longer waited for: whoever computes a block writes the same.
A mark is a checksum of its block, which each process checks when it first reads the block; a damaged one is computed
again. The disk space is reserved when a store is made, so none runs out later.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
import struct
import time
import warnings
import weakref
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: Rows computed at a time: fixed, so that a row's features do not depend on who computes them.
BLOCK = 256

_FILES = ("done", "features")
_MARK = struct.Struct("<BI")  # whether a block is done, and the CRC-32 of its features

_PATIENCE_SECONDS = 600.0  # for a lock of another process, which may hang
_POLL_SECONDS = 0.05

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
        compute: computes rows that are not there, or not whole.

    Raises:
        OSError: the disk is full, or the folder is another user's.
    """

    def __init__(self, folder: Path, rows: int, shape: tuple[int, ...], dtype: np.dtype, compute: Compute) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._blocks = -(-rows // BLOCK)
        self._row_bytes = int(np.prod(shape)) * dtype.itemsize
        self._compute = compute
        self._corrupt = folder / "corrupt.jsonl"
        # One descriptor a file: closing any other one would end this process's locks.
        self._marks, self._file = (os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o644) for name in _FILES)
        for descriptor in (self._marks, self._file):
            weakref.finalize(self, os.close, descriptor)
        fcntl.flock(self._marks, fcntl.LOCK_SH)  # in use; :func:`open_store` leaves it alone
        os.utime(folder)
        os.posix_fallocate(self._marks, 0, max(1, self._blocks * _MARK.size))
        os.posix_fallocate(self._file, 0, max(1, rows * self._row_bytes))
        self._features = np.memmap(folder / "features", dtype, "r", shape=(rows, *shape))
        self._checked = np.zeros(self._blocks, bool)

    def build(self) -> Built:
        """Complete the store together with all other processes that are at it."""
        computed = 0
        waiting = [block for block in range(self._blocks) if not self._done(block)]
        for patient in (False, True):  # first what nobody is at, then what others have not finished or left undone
            left = []
            for block in waiting:
                with self._locked(block, patient) as mine:
                    if mine and not self._done(block):
                        computed += self._fill(block)
                    elif not mine:
                        left.append(block)
            waiting = left
        return Built(computed, self._read_corrupt())

    def read(self, rows: np.ndarray) -> np.ndarray:
        """A copy of the features of ``rows``; those of a damaged block are computed again, with a warning."""
        blocks = np.unique(rows // BLOCK)
        for block in blocks[~self._checked[blocks]].tolist():
            self._check(block)
        if rows.size and rows[-1] - rows[0] == rows.size - 1 and (np.diff(rows) == 1).all():
            return np.array(self._features[rows[0] : rows[-1] + 1])  # one copy, several times as fast
        features: np.ndarray = self._features[rows]
        return features

    def _check(self, block: int) -> None:
        if not self._whole(block):
            with self._locked(block, patient=True):
                if not self._whole(block):  # nobody has mended it meanwhile
                    warnings.warn(
                        f"{self._features.filename}: block {block} was damaged and is computed again", stacklevel=3
                    )
                    self._fill(block)
        self._checked[block] = True

    def _whole(self, block: int) -> bool:
        return self._mark(block) == (1, zlib.crc32(self._features[block * BLOCK : (block + 1) * BLOCK].data))

    def _fill(self, block: int) -> int:
        rows = np.arange(block * BLOCK, min((block + 1) * BLOCK, len(self._features)))
        features, corrupt = self._compute(rows)
        data = np.ascontiguousarray(features).data.cast("B")
        _write(self._file, data, block * BLOCK * self._row_bytes)
        os.fdatasync(self._file)
        if corrupt:
            with open(self._corrupt, "a") as file:
                file.write(json.dumps({"block": block, "names": corrupt}) + "\n")
        _write(self._marks, memoryview(_MARK.pack(1, zlib.crc32(data))), block * _MARK.size)
        return len(rows)

    def _done(self, block: int) -> bool:
        return self._mark(block)[0] == 1

    def _mark(self, block: int) -> tuple[int, int]:
        done, checksum = _MARK.unpack(os.pread(self._marks, _MARK.size, block * _MARK.size))
        return done, checksum

    @contextmanager
    def _locked(self, block: int, patient: bool) -> Iterator[bool]:
        def attempt() -> None:
            fcntl.lockf(self._marks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, block)

        if not _lock(attempt, _PATIENCE_SECONDS if patient else 0):
            if patient:
                warnings.warn(
                    f"{self._features.filename}: another process has held block {block} for {_PATIENCE_SECONDS:g} s; "
                    "it is computed here, too",
                    stacklevel=4,
                )
            yield patient
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


def open_store(
    root: Path, key: str, rows: int, shape: tuple[int, ...], dtype: np.dtype, compute: Compute, limit: int
) -> FeatureStore | None:
    """A store with all its space reserved; for that, those that were opened longest ago are deleted.

    Args:
        root: folder of all stores.
        key: of the store, which may exist in part.
        rows, shape, dtype, compute: see :class:`FeatureStore`.
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
        if not _lock(lambda: fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB), _PATIENCE_SECONDS):
            warnings.warn(f"{guard.name}: another process has held it for {_PATIENCE_SECONDS:g} s", stacklevel=2)
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
            return FeatureStore(root / key, rows, shape, dtype, compute)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            shutil.rmtree(root / key, ignore_errors=True)  # nobody else can have opened it: they wait for the guard
            return None


def _lock(attempt: Callable[[], None], seconds: float) -> bool:
    """Try to get a lock for some time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            attempt()
            return True
        except (BlockingIOError, PermissionError):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


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
