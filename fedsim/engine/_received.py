"""Uploads between their arrival and their turn: waiting as bytes, then decoded ahead of it in threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import deltamask as dm
from deltamask import parallel
from deltamask.uploads import split_weight
from fedsim.engine._faults import describe
from fedsim.engine._types import Upload
from fedsim.engine._world import Report
from fedsim.methods import MethodServer


@dataclass(frozen=True)
class Received:
    """An upload as the server has it.

    Attributes:
        error: what keeps it from being used; None when nothing does.
        decoded: what the method's server decoded it to.
        weight: of the client.
        seconds: for decoding.
    """

    error: str | None
    decoded: Any
    weight: int
    seconds: float


def in_order(uploads: Iterator[Upload], cohort: list[int]) -> Iterator[Upload]:
    """Uploads in client order; those that arrive early wait, as bytes."""
    waiting: dict[int, Upload] = {}
    expected = iter(cohort)
    following: int | None = next(expected)
    for upload in uploads:
        waiting[upload.client] = upload
        while following in waiting:
            yield waiting.pop(following)
            following = next(expected, None)
    if following is not None:
        raise RuntimeError(f"executor: expected an upload of client {following}, found none")


def decoded_ahead(
    server: MethodServer[Any], round_index: int, reports: Iterator[Report]
) -> Iterator[tuple[Report, Received]]:
    """Reports and what they say, in order; while more come, as many are decoded at once as this process has threads."""
    threads = parallel.threads()
    if threads == 1:
        yield from ((report, _decode(server, round_index, report)) for report in reports)
        return
    with ThreadPoolExecutor(threads, "decode") as pool:
        pending: deque[tuple[Report, Future[Received]]] = deque()
        for report in reports:
            pending.append((report, pool.submit(_decode, server, round_index, report)))
            while pending and (len(pending) > threads or pending[0][1].done()):
                first, future = pending.popleft()
                yield first, future.result()
        for first, future in pending:
            yield first, future.result()


def _decode(server: MethodServer[Any], round_index: int, report: Report) -> Received:
    started = time.perf_counter()
    upload = report.upload
    error, decoded, weight = report.lost or upload.error, None, 1
    if error is None:
        try:
            payload, weight = split_weight(upload.update.payload, server.params.weighted)
            decoded = server.decode(round_index, upload.client, payload)
        except dm.PayloadError as fault:
            error = describe(fault)
    return Received(error, decoded, weight, time.perf_counter() - started)
