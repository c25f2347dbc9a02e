"""Small experiments in this process, and a record of all that crosses between server and clients."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from deltamask.uploads import split_weight
from fedsim.config import Config, load_config
from fedsim.engine import Broadcast, Federation, PhaseName, RoundOutcome, SerialExecutor, Upload

_SMALL = {
    "rounds": 2,
    "data": {"train_samples": 600, "test_samples": 200},
    "partition": {"clients": 4},
    "model": {"masked_blocks": 1},
    "cluster": {"executor": "serial", "checkpoint_seconds": 0},
}
_TIMES = ("_seconds", "prefix_images")  # whoever comes first computes the prefix


def small_config(folder: str | os.PathLike[str], *overrides: str) -> Config:
    """An experiment of a few seconds on the embedded digits, which writes below a folder alone.

    Args:
        folder: of its output and its prefix features.
        overrides: ``"key=value"``.
    """
    tree: dict[str, Any] = copy.deepcopy(_SMALL)
    tree["output"] = os.fspath(folder)
    tree["cluster"]["feature_store"] = os.path.join(folder, "features")
    return load_config(tree, overrides)


class RecordingExecutor(SerialExecutor):
    """Keeps everything that crosses between server and clients.

    Attributes:
        uploads: payloads by round and client.
        broadcasts: by round.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.uploads: dict[tuple[int, int], bytes] = {}
        self.broadcasts: dict[int, Broadcast] = {}
        self._config = config

    def content(self, round_index: int, client: int) -> bytes:
        """An upload as the head or the method encoded it, without the client's weight."""
        params = self._config.method if round_index else self._config.head
        return split_weight(self.uploads[round_index, client], params.weighted)[0]

    def train(
        self,
        phase: PhaseName,
        round_index: int,
        cohort: Sequence[int],
        broadcast: Broadcast,
        kept: Mapping[int, int],
    ) -> Iterator[Upload]:
        self.broadcasts[round_index] = broadcast
        for upload in super().train(phase, round_index, cohort, broadcast, kept):
            self.uploads[round_index, upload.client] = upload.update.payload
            yield upload


#: What a run leaves: who computed it, the server's side and the rows of its rounds.
Run = tuple[RecordingExecutor, Federation, list[RoundOutcome]]


def run_rounds(config: Config) -> Run:
    """Run an experiment to its end, in this process and without a store."""
    executor = RecordingExecutor(config)
    federation = Federation(config, executor)
    outcomes = []
    while not federation.done:
        outcomes.append(federation.run_round())
    return executor, federation, outcomes


@lru_cache(maxsize=64)
def run_once(config: Config) -> Run:
    """:func:`run_rounds`, the same for all tests that only look at it."""
    return run_rounds(config)


def without_times(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without what depends on the speed of the machine."""
    return {key: value for key, value in row.items() if not key.endswith(_TIMES)}


def flipped_bit(message: bytes, position: int = -1) -> bytes:
    """The message with one bit changed."""
    damaged = bytearray(message)
    damaged[position] ^= 1
    return bytes(damaged)


class SmallExperiments:
    """Base of the suites that run whole rounds."""

    @pytest.fixture
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """One folder for the whole session, so that prefix features are computed once and runs are shared."""
        return tmp_path_factory.getbasetemp() / "fedsim-contracts"
