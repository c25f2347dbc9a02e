"""The server's end of a federation."""

from __future__ import annotations

import zlib

from deltamask import codecs, payload
from deltamask.broadcast import pack_sums
from deltamask.payload import Buffer
from deltamask.posterior import GlobalProbabilities, check_range
from deltamask.session import MESSAGE_HEAD, SAVED_HEAD, End, check_client
from deltamask.update import Decoded
from deltamask.uploads import pack_relay, unpack_relay


class Server(End):
    """The server of a federation: global probabilities, the round, and what clients that missed rounds get.

    A round is: :meth:`message` to each client of a cohort, :meth:`accept` of what comes back, :meth:`step`. Clients
    may come in any order, or not at all: sums are of integers, so that no order changes a result.

    Args:
        probabilities: as they are before the first round; it is the server's from then on.
        seed: of all shared randomness; the clients have the same.
        codec: a name of :data:`deltamask.codecs.CODECS`, or a codec of your own.
        max_weight: largest weight that a client may give itself; None: uploads have none, and all count alike.
        head: bytes of the caller's for every client, such as a classification head.
        relay: pass a round's uploads on where they are shorter than its sums; so each client sees those of the others.

    Raises:
        ValueError: an argument is out of its range, by name.
    """

    def __init__(
        self,
        probabilities: GlobalProbabilities,
        *,
        seed: int,
        codec: str | codecs.Codec = "fuse8+png",
        max_weight: int | None = None,
        head: bytes = b"",
        relay: bool = False,
    ) -> None:
        super().__init__(probabilities, seed=seed, codec=codec, max_weight=max_weight)
        self.head, self.relay = head, relay
        self._steps: list[bytes] = []  # of the last rounds, as long as they are shorter than the whole state
        self._uploads: dict[int, bytes] = {}
        self._full: tuple[bytes, int] | None = None  # the whole state and the checksum of theta, made once a round

    def message(self, known: int = 0) -> bytes:
        """The message to a client: what the rounds since its last one changed, or the whole state if that is shorter.

        Args:
            known: the client's :attr:`Client.round`, which it says; 0 where it has nothing.

        Raises:
            ValueError: there was no such round yet.
        """
        check_range("known", known, 0 <= known <= self.round, f"0 to {self.round}, the round under way")
        if self._full is None:
            self._full = self._whole(), zlib.crc32(self.theta_d.data)
        (body, checksum), start, behind = self._full, 0, self.round - known
        if known and behind <= len(self._steps):
            steps = payload.join(self._steps[len(self._steps) - behind :])
            if len(steps) <= len(body):
                body, start = steps, known
        return self._pack(payload.MESSAGE, MESSAGE_HEAD.pack(start, self.round, checksum) + body)

    def accept(self, client: int, upload: Buffer) -> Decoded:
        """Count a client's upload of this round; who the client is, the caller knows, not the bytes.

        Raises:
            PayloadError: the bytes are no upload of this client in this round; nothing has changed.
            ValueError: the client has sent in this round, or is out of range.
        """
        check_client(client)
        if client in self._uploads:
            raise ValueError(f"client: found {client}, allowed: those that have not sent in round {self.round}")
        decoded = self._observe(self.probabilities, client, upload, self.round)
        self._uploads[client] = bytes(upload)
        return decoded

    @property
    def accepted(self) -> list[int]:
        """Clients whose uploads of this round were accepted, ascending."""
        return sorted(self._uploads)

    def step(self) -> None:
        """End the round with the uploads that there are, and begin the next."""
        step = pack_sums(self.probabilities, self.probabilities.round_sums)
        if self.relay:
            step = min(step, pack_relay(self.round, sorted(self._uploads.items())), key=len)
        self.probabilities.step()
        self.round += 1
        self._uploads, self._full = {}, None
        self._steps.append(step)
        whole = len(self._whole())
        while len(payload.join(self._steps)) > whole:
            del self._steps[0]

    def to_bytes(self) -> bytes:
        """All that a server must keep, with the uploads of the round under way."""
        relay = pack_relay(self.round, sorted(self._uploads.items()))
        parts = payload.join([self._whole(), *self._steps, relay])
        return self._pack(payload.SAVED_SERVER, SAVED_HEAD.pack(self.round, len(self._steps)) + parts)

    def restore(self, data: Buffer) -> None:
        """Take back what :meth:`to_bytes` gave, in a server that was made with the same arguments.

        Raises:
            PayloadError: the bytes are no state of such a server; nothing has changed.
        """
        body = self._unpack(payload.SAVED_SERVER, data, SAVED_HEAD)
        round_index, count = SAVED_HEAD.unpack_from(body)
        whole, *steps, relay = payload.split("server", body[SAVED_HEAD.size :], count + 2)
        state, head = payload.split("state", whole, 2)
        probabilities = self._from_whole(state)
        _, uploads = unpack_relay(bytes(relay))
        for client, upload in uploads:
            self._observe(probabilities, client, upload, round_index)
        self.probabilities, self.round, self.head = probabilities, round_index, bytes(head)
        self._steps, self._uploads, self._full = [bytes(step) for step in steps], dict(uploads), None
