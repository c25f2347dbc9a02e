"""A client's end of a federation."""

from __future__ import annotations

import copy
import zlib
from dataclasses import replace

import numpy as np
from torch import Tensor

from deltamask import codecs, payload
from deltamask.broadcast import unpack_sums
from deltamask.delta import Selection
from deltamask.payload import Buffer, PayloadError
from deltamask.posterior import GlobalProbabilities, check_range
from deltamask.sampling import stream_key
from deltamask.session import MESSAGE_HEAD, SAVED_HEAD, End, check_client, reference_key
from deltamask.update import Update, encode
from deltamask.uploads import add_weight, unpack_relay


class Client(End):
    """One client of a federation: the global probabilities that it has, and of which round they are.

    A round is: :meth:`receive` what the server sent, train from :attr:`theta_d`, :meth:`upload` what came of it.

    Args:
        client: number of this client, from 0 on, by which the server knows it.
        probabilities, seed, codec, max_weight: as those of :class:`Server`.

    Attributes:
        round: number of the round that the client is at; 0 before its first message.

    Raises:
        ValueError: an argument is out of its range, by name.
    """

    def __init__(
        self,
        client: int,
        probabilities: GlobalProbabilities,
        *,
        seed: int,
        codec: str | codecs.Codec = "fuse8+png",
        max_weight: int | None = None,
    ) -> None:
        check_client(client)
        super().__init__(probabilities, seed=seed, codec=codec, max_weight=max_weight)
        self.client, self.round = client, 0

    def key(self, purpose: str, *more: int) -> int:
        """A stream of this round and client, such as ``key("train", step)``."""
        return stream_key(self.seed, purpose, self.round, self.client, *more)

    def receive(self, message: Buffer) -> None:
        """Get to the server's round by a message of :meth:`Server.message`.

        Raises:
            PayloadError: the bytes are no such message, or do not follow on this client's state, or do not lead to the
                server's probabilities; nothing has changed.
        """
        body = self._unpack(payload.MESSAGE, message, MESSAGE_HEAD)
        known, round_index, checksum = MESSAGE_HEAD.unpack_from(body)
        if known not in (0, self.round) or round_index < max(self.round, 1):
            found = f"one from {known} to {round_index}"
            raise PayloadError(f"message: expected one from round 0 or {self.round} on, found {found}")
        head = self.head
        if known:
            probabilities = copy.copy(self.probabilities)
            for index, step in enumerate(
                payload.split("message", body[MESSAGE_HEAD.size :], round_index - known), known
            ):
                self._follow(probabilities, step, index)
        else:
            state, received = payload.split("message", body[MESSAGE_HEAD.size :], 2)
            probabilities, head = self._from_whole(state), bytes(received)
        if (found_crc := zlib.crc32(probabilities.theta_d.data)) != checksum:
            raise PayloadError(f"message: expected probabilities of checksum {checksum:#010x}, found {found_crc:#010x}")
        self.probabilities, self.round, self.head = probabilities, round_index, head

    def _follow(self, probabilities: GlobalProbabilities, step: memoryview, round_index: int) -> None:
        if payload.kind_of(step) == payload.SUMS:
            probabilities.apply(unpack_sums(bytes(step), probabilities))
            return
        relayed, uploads = unpack_relay(bytes(step))
        if relayed != round_index:
            raise PayloadError(f"relay: expected round {round_index}, found {relayed}")
        for client, upload in uploads:
            self._observe(probabilities, client, upload, round_index)
        probabilities.step()

    def upload(
        self,
        theta_k_d: np.ndarray | Tensor,
        *,
        kappa: float = 1.0,
        selection: Selection = "kl",
        most: int | None = None,
        weight: int = 1,
    ) -> Update:
        """Encode the probabilities after training for the server; see :func:`deltamask.encode`.

        Args:
            theta_k_d, kappa, selection, most: as there.
            weight: of this client, such as its number of samples, from 1 to ``max_weight``.

        Raises:
            ValueError: an argument is out of its range, or nothing was received yet.
        """
        check_range("round", self.round, self.round >= 1, "at least 1, after a message was received")
        check_range("weight", weight, 1 <= weight <= self.max_weight, f"1 to {self.max_weight}")
        key = reference_key(self.seed, self.round, self.client)
        update = encode(theta_k_d, self.theta_d, key, kappa=kappa, codec=self.codec, selection=selection, most=most)
        return replace(update, payload=add_weight(update.payload, weight)) if self.weighted else update

    def to_bytes(self) -> bytes:
        """All that a client must keep between its rounds."""
        return self._pack(payload.SAVED_CLIENT, SAVED_HEAD.pack(self.round, self.client) + self._whole())

    def restore(self, data: Buffer) -> None:
        """Take back what :meth:`to_bytes` gave, in a client that was made with the same arguments.

        Raises:
            PayloadError: the bytes are no state of such a client; nothing has changed.
        """
        body = self._unpack(payload.SAVED_CLIENT, data, SAVED_HEAD)
        round_index, client = SAVED_HEAD.unpack_from(body)
        if client != self.client:
            raise PayloadError(f"client: expected {self.client}, found {client}")
        state, head = payload.split("state", body[SAVED_HEAD.size :], 2)
        self.probabilities, self.round, self.head = self._from_whole(state), round_index, bytes(head)
