"""DeltaMask as a Flower strategy: a session's bytes in Flower's messages."""

from __future__ import annotations

import time
from collections.abc import Iterable
from logging import INFO, WARNING

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

import deltamask


class DeltaMask(Strategy):
    """Sends each node what it lacks, and takes its upload; Flower's arrays stay empty.

    Args:
        server: the session, at its start or as it was saved.
        clients: nodes to wait for before a round.
    """

    def __init__(self, server: deltamask.Server, clients: int) -> None:
        self.server, self._clients = server, clients
        self._known: dict[int, int] = {}  # the rounds that nodes are at

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        while len(nodes := sorted(grid.get_node_ids())) < self._clients:
            time.sleep(0.5)
        return [self._message(node) for node in nodes]  # a list, as Flower goes through them twice

    def _message(self, node: int) -> Message:
        content = ConfigRecord({"message": self.server.message(self._known.get(node, 0))})
        return Message(RecordDict({"deltamask": content}), dst_node_id=node, message_type=MessageType.TRAIN)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        uplink = 0
        for reply in replies:
            node = reply.metadata.src_node_id
            if reply.has_error():
                log(WARNING, "node %s: %s", node, reply.error)
                continue
            try:
                record = reply.content["deltamask"]
                self.server.accept(record["client"], record["upload"])
            except (KeyError, TypeError, ValueError) as error:  # PayloadError is one: this round goes without the node
                log(WARNING, "node %s: %s", node, error)
                continue
            self._known[node] = self.server.round
            uplink += len(record["upload"])
        accepted = len(self.server.accepted)
        self.server.step()
        return None, MetricRecord({"uplink_bytes": uplink, "clients": accepted})

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        return None

    def summary(self) -> None:
        log(INFO, "\tDeltaMask: %s mask bits, %s", self.server.theta_d.size, self.server.codec.name)
