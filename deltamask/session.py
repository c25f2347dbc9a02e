"""The state that both ends of a federation keep between rounds, and the messages that pass between them.

Neither end sends anything: messages and uploads are bytes that the caller carries. Both are made with the same global
probabilities, seed and codec; so a round's uniforms are those of ``(seed, round, client)`` at either end.
"""

from __future__ import annotations

import copy
import struct

import numpy as np

from deltamask import codecs, payload
from deltamask.broadcast import pack_state, unpack_state
from deltamask.payload import Buffer, PayloadError
from deltamask.posterior import GlobalProbabilities, check_range
from deltamask.sampling import stream_key
from deltamask.update import Decoded, decode
from deltamask.uploads import split_weight

#: Round that the receiver of a message has, or 0; round that it gets to; CRC-32 of theta there.
MESSAGE_HEAD = struct.Struct("<III")
#: Round of a saved end; number of a server's steps, or a client's own.
SAVED_HEAD = struct.Struct("<II")


def reference_key(seed: int, round_index: int, client: int) -> int:
    """The stream of the uniforms that a client and the server share in one round."""
    return stream_key(seed, "reference", round_index, client)


def check_client(client: int) -> None:
    """Raise ValueError unless a client's number fits the messages."""
    check_range("client", client, 0 <= client < 2**32, "0 to 2^32 - 1")


class End:
    """A server or a client; :class:`~deltamask.Server` and :class:`~deltamask.Client` have the methods to call.

    Attributes:
        probabilities: the global ones at the start of :attr:`round`.
        round: number of the round under way, from 1 on.
        head: bytes of the caller's that go with a whole state, such as a classification head; they never change.
    """

    def __init__(
        self,
        probabilities: GlobalProbabilities,
        *,
        seed: int,
        codec: str | codecs.Codec = "fuse8+png",
        max_weight: int | None = None,
    ) -> None:
        self.weighted, self.max_weight = max_weight is not None, 1 if max_weight is None else max_weight
        check_range("max_weight", self.max_weight, 1 <= self.max_weight < 2**31, "1 to 2^31 - 1")
        self.probabilities, self._initial, self.seed = probabilities, copy.copy(probabilities), seed
        self.codec = codecs.get(codec) if isinstance(codec, str) else codec
        self.round, self.head = 1, b""
        name = stream_key(seed, "session", self.codec.name, max_weight or 0)
        self._context = payload.context(name, probabilities.theta_d)

    @property
    def theta_d(self) -> np.ndarray:
        """The global probabilities at the start of the round, float32 of shape ``(d,)``."""
        return self.probabilities.theta_d

    def _observe(self, probabilities: GlobalProbabilities, client: int, upload: Buffer, round_index: int) -> Decoded:
        data, weight = split_weight(upload, self.weighted)
        if weight > self.max_weight or probabilities.round_sums.total + weight >= 2**31:
            allowed = f"at most {self.max_weight}, and below 2^31 in a round"
            raise PayloadError(f"weight: expected {allowed}, found {weight}")
        key = reference_key(self.seed, round_index, client)
        decoded = decode(data, probabilities.theta_d, key, codec=self.codec)
        probabilities.observe(decoded.mask_d, decoded.reference_d, weight)
        return decoded

    def _whole(self) -> bytes:
        return payload.join([pack_state(self.probabilities, self._initial.state()), self.head])

    def _pack(self, kind: int, body: bytes) -> bytes:
        return payload.pack(kind, self.theta_d.size, body, self._context)

    def _unpack(self, kind: int, data: Buffer, head: struct.Struct) -> memoryview:
        body = payload.unpack(data, kind, self.theta_d.size, self._context)
        if len(body) < head.size:
            raise PayloadError(f"session: expected at least {head.size} bytes, found {len(body)}")
        return body

    def _from_whole(self, state: memoryview) -> GlobalProbabilities:
        received = copy.copy(self._initial)  # every change replaces arrays, so that a copy may share them
        unpack_state(state, received)
        return received
