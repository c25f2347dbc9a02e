"""Client states: what clients keep of a round for their next one, a file each, for whichever process computes them.

The files lie in the run's folder, which all workers must see: a disk that they share, or an object store. Server and
messages know only the round that a client kept something of.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping

import numpy as np
from pyarrow import fs
from safetensors import SafetensorError
from safetensors.numpy import load, save

from deltamask import PayloadError, payload
from fedsim.errors import CheckpointError
from results import locations

_NAME = re.compile(r"(\d+)-(\d+)\.bin")


class ClientStates:
    """The states that clients of a run keep.

    Args:
        output: folder of all runs, a local path or a URI.
        run_id: name of the run.
    """

    def __init__(self, output: str, run_id: str) -> None:
        self._fs, root = locations.open_filesystem(output)
        self._folder = f"{root.rstrip('/')}/{run_id}/kept"

    def write(self, client: int, round_index: int, state: np.ndarray) -> None:
        """Store what a client keeps of a round."""
        data = payload.pack(payload.TENSORS, 0, save({"state": state}))
        hidden = f"{self._folder}/.{client}-{round_index}.{os.getpid()}.tmp"
        locations.write(self._fs, self._path(client, round_index), memoryview(data), hidden)

    def read(self, client: int, round_index: int) -> np.ndarray:
        """The state that a client kept of a round.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        path = self._path(client, round_index)
        try:
            return load(bytes(payload.unpack(locations.read(self._fs, path) or b"", payload.TENSORS, 0)))["state"]
        except (PayloadError, SafetensorError, KeyError) as error:
            raise CheckpointError(
                f"{path}: missing or damaged ({error}); do all workers see output? --fresh starts the run again"
            ) from error

    def prune(self, kept: Mapping[int, int]) -> None:
        """Remove what clients kept of rounds before those."""
        for info in self._fs.get_file_info(fs.FileSelector(self._folder, allow_not_found=True)):
            match = _NAME.fullmatch(info.base_name)
            if match and int(match[2]) < kept.get(int(match[1]), 0):
                with contextlib.suppress(FileNotFoundError):
                    self._fs.delete_file(info.path)

    def clear(self) -> None:
        """Remove all."""
        if self._fs.get_file_info(self._folder).type == fs.FileType.Directory:
            self._fs.delete_dir(self._folder)

    def _path(self, client: int, round_index: int) -> str:
        return f"{self._folder}/{client}-{round_index}.bin"
