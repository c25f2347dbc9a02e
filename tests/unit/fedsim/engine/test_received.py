"""Uploads between their arrival and their turn."""

import threading
from types import SimpleNamespace

import pytest

from deltamask import PayloadError, Update, parallel
from fedsim.engine._received import decoded_ahead, in_order
from fedsim.engine._types import Upload
from fedsim.engine._world import Report


class _Server:
    """Decodes a payload to its number; with several threads, each waits until another one decodes too."""

    params = SimpleNamespace(weighted=False)

    def __init__(self, threads):
        self.barrier = threading.Barrier(min(threads, 2))

    def decode(self, round_index, client, payload):
        self.barrier.wait(30)
        if payload == b"4":
            raise PayloadError("four")
        return int(payload)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_several_are_decoded_at_once_and_come_in_the_order_of_clients(monkeypatch, threads):
    monkeypatch.setattr(parallel, "_threads", threads)
    arriving = [Upload(client, 1, Update(str(client).encode()), None, 0.0, 0.0) for client in (3, 0, 5, 1, 2, 4)]
    reports = (Report(upload, 0, 1, None, 0.0) for upload in in_order(iter(arriving), list(range(6))))
    found = list(decoded_ahead(_Server(threads), 1, reports))
    assert [report.client for report, _ in found] == list(range(6))
    assert [received.decoded for _, received in found] == [0, 1, 2, 3, None, 5]
    assert [received.error is None for _, received in found] == [True] * 4 + [False, True]
