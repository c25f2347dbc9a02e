"""Prefix features of a node, computed once and memory-mapped by every process that wants them.

A store is one folder a key, and the key is a digest of all that the features follow from: the images, their
preprocessing and the frozen weights. Rows are computed in blocks. A block is locked while it is computed, so that
processes share the work and none is done twice; locks end with their process, and only whole blocks are marked as done.
A process that holds a lock for too long is no longer waited for: whoever computes a block writes the same.
A mark is a checksum of its block, which each process checks when it first reads the block; a damaged one is computed
again. The disk space is reserved when a store is made, so none runs out later. Where few rows will be read, blocks are
single rows, which are computed when they are first read.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import time
import warnings
import weakref
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np

#: Rows computed at a time: fixed, so that a row's features do not depend on who computes them.
BLOCK = 256

_FILES = ("done", "features")
_MARK = struct.Struct("<BI")  # whether a block is done, and the CRC-32 of its features
_MARKS = np.dtype([("done", "u1"), ("checksum", "<u4")])  # the same, as they are read

PATIENCE_SECONDS = 600.0  # for a lock of another process, which may hang
_POLL_SECONDS = 0.05

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
        block: rows that are computed, marked and checked together.

    Raises:
        OSError: the disk is full, or the folder is another user's.
    """

    def __init__(
        self, folder: Path, rows: int, shape: tuple[int, ...], dtype: np.dtype, compute: Compute, block: int = BLOCK
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._block, self._blocks = block, -(-rows // block)
        self._row_bytes = int(np.prod(shape)) * dtype.itemsize
        self._compute = compute
        self._corrupt = folder / "corrupt.jsonl"
        # One descriptor a file: closing any other one would end this process's locks.
        self._marks, self._file = (os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o644) for name in _FILES)
        for descriptor in (self._marks, self._file):
            weakref.finalize(self, os.close, descriptor)
        fcntl.flock(self._marks, fcntl.LOCK_SH)  # in use; :func:`fedsim.features.open_store` leaves it alone
        os.utime(folder)
        os.posix_fallocate(self._marks, 0, max(1, self._blocks * _MARK.size))
        os.posix_fallocate(self._file, 0, max(1, rows * self._row_bytes))
        self._features = np.asarray(np.memmap(folder / "features", dtype, "r", shape=(rows, *shape)))
        self._path = folder / "features"
        self._seen = np.asarray(np.memmap(folder / "done", _MARKS, "r", shape=(max(1, self._blocks),)))
        self._bytes = self._features.reshape(-1).view(np.uint8).data
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
        return Built(computed, self.corrupt())

    def complete(self, rows: np.ndarray) -> int:
        """Compute those of some rows that are not there, at most :data:`BLOCK` at a time; their number.

        For blocks of one row; another process may compute the same ones, and writes the same.
        """
        unchecked = rows[~self._checked[rows]]
        missing = unchecked[self._seen["done"][unchecked] != 1]
        for start in range(0, missing.size, BLOCK):  # the images of a client may not fit into memory
            part = missing[start : start + BLOCK]
            features, corrupt = self._compute(part)
            data = [np.ascontiguousarray(of_row).data.cast("B") for of_row in features]
            for row, of_row in zip(part.tolist(), data, strict=True):
                _write(self._file, of_row, row * self._row_bytes)
            os.fdatasync(self._file)
            self._note(int(part[0]), corrupt)
            for row, of_row in zip(part.tolist(), data, strict=True):
                self._set_mark(row, of_row)
        return int(missing.size)

    def ready(self) -> int:
        """Rows that are done, whoever computed them; where few rows are missing, up to a block too many."""
        return min(int((self._seen["done"] == 1).sum()) * self._block, len(self._features))

    def corrupt(self) -> list[str]:
        """Names of the undecodable images that were found so far, whoever found them."""
        if not self._corrupt.exists():
            return []
        found = [json.loads(line) for line in self._corrupt.read_text().splitlines()]
        return list(dict.fromkeys(name for row in sorted(found, key=itemgetter("block")) for name in row["names"]))

    def read(self, rows: np.ndarray) -> np.ndarray:
        """A copy of the features of ``rows``; those of a damaged block are computed again, with a warning."""
        blocks = np.unique(rows // self._block)
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
                    warnings.warn(f"{self._path}: block {block} was damaged and is computed again", stacklevel=3)
                    self._fill(block)
        self._checked[block] = True

    def _whole(self, block: int) -> bool:
        size = self._block * self._row_bytes
        done, checksum = self._seen[block].tolist()
        return done == 1 and checksum == zlib.crc32(self._bytes[block * size : (block + 1) * size])

    def _fill(self, block: int) -> int:
        rows = np.arange(block * self._block, min((block + 1) * self._block, len(self._features)))
        features, corrupt = self._compute(rows)
        data = np.ascontiguousarray(features).data.cast("B")
        _write(self._file, data, block * self._block * self._row_bytes)
        os.fdatasync(self._file)
        self._note(block, corrupt)
        self._set_mark(block, data)
        return len(rows)

    def _note(self, block: int, corrupt: list[str]) -> None:
        if corrupt:
            with open(self._corrupt, "a") as file:
                file.write(json.dumps({"block": block, "names": corrupt}) + "\n")

    def _set_mark(self, block: int, data: memoryview) -> None:
        _write(self._marks, memoryview(_MARK.pack(1, zlib.crc32(data))), block * _MARK.size)

    def _done(self, block: int) -> bool:
        return bool(self._seen["done"][block] == 1)

    @contextmanager
    def _locked(self, block: int, patient: bool) -> Iterator[bool]:
        def attempt() -> None:
            fcntl.lockf(self._marks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, block)

        if not lock(attempt, PATIENCE_SECONDS if patient else 0):
            if patient:
                warnings.warn(
                    f"{self._path}: another process has held block {block} for {PATIENCE_SECONDS:g} s; "
                    "it is computed here, too",
                    stacklevel=4,
                )
            yield patient
            return
        try:
            yield True
        finally:
            fcntl.lockf(self._marks, fcntl.LOCK_UN, 1, block)


def lock(attempt: Callable[[], None], seconds: float) -> bool:
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
