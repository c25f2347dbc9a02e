"""The phase that a run is at, and what its clients print: seen on the way between the federation and an executor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fedsim.engine._executors import Executor
from fedsim.engine._types import Broadcast, EvaluationSums, PhaseName, Prepared, Upload

_CHARACTERS = 64_000  # of a round's prints that are kept, the first ones


class FollowedExecutor(Executor):
    """An executor whose work is followed; another thread may read :attr:`phase`.

    Args:
        executor: does the work.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._phase = "starting"
        self._printed: list[str] = []
        self._size, self._left_out = 0, 0

    @property
    def phase(self) -> str:
        """The work in progress, in words."""
        ready = self._executor.ready() if self._phase == "prefix features" else None
        return self._phase if ready is None else f"{self._phase} {ready.images:,}/{ready.total:,} images"

    def take_output(self) -> str:
        """The prints of clients since the last call, in the order of their uploads; empty without any."""
        if self._left_out:
            self._printed.append(f"... and prints of {self._left_out} more clients")
        text = "\n".join(self._printed)
        self._printed, self._size, self._left_out = [], 0, 0
        return text

    def prepare(self) -> Prepared:
        self._phase = "prefix features"
        return self._executor.prepare()

    def train(
        self,
        phase: PhaseName,
        round_index: int,
        cohort: Sequence[int],
        broadcast: Broadcast,
        kept: Mapping[int, int],
    ) -> Iterator[Upload]:
        name = "fitting head" if phase == "head" else f"round {round_index}"
        self._phase = name
        uploads = self._executor.train(phase, round_index, cohort, broadcast, kept)
        for done, upload in enumerate(uploads, 1):
            self._phase = f"{name}, {done:,}/{len(cohort):,} clients"
            if upload.output and self._size < _CHARACTERS:
                self._printed.append(upload.output)
                self._size += len(upload.output)
            elif upload.output:
                self._left_out += 1
            yield upload

    def evaluate(
        self, phase: PhaseName, round_index: int, chunks: int, broadcast: Broadcast
    ) -> list[dict[str, EvaluationSums]]:
        self._phase = "evaluating head" if phase == "head" else f"evaluating round {round_index}"
        return self._executor.evaluate(phase, round_index, chunks, broadcast)

    def close(self) -> None:
        self._executor.close()
