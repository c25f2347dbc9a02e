"""Messages over TCP: a length of four bytes, little-endian, and so many bytes."""

from __future__ import annotations

import socket
import struct

LENGTH = struct.Struct("<I")
HELLO = struct.Struct("<II")  # number of the client, its round
MOST = 1 << 20  # bytes of a message: a mask of this network has 11 kB
SECONDS = 60.0  # after which the other end counts as lost


def send(peer: socket.socket, data: bytes) -> None:
    peer.sendall(LENGTH.pack(len(data)) + data)


def receive(peer: socket.socket, most: int = MOST) -> bytes:
    """The next message. Raises ConnectionError where there is none, or a longer one than the receiver takes."""
    (length,) = LENGTH.unpack(_exactly(peer, LENGTH.size))
    if length > most:
        raise ConnectionError(f"message: found {length} bytes, allowed: at most {most}")
    return _exactly(peer, length)


def _exactly(peer: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = peer.recv(min(size - len(parts), 1 << 16))
        if not part:
            raise ConnectionError("the other end has closed")
        parts += part
    return bytes(parts)
