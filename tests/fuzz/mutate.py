"""Mutations of bytes: what lines, disks and other programs do to them, and what somebody might try."""

from __future__ import annotations

import random

_SIZES = (1, 2, 4, 8)


def mutated(rng: random.Random, seeds: list[bytes]) -> bytes:
    """One of some messages with up to four changes, or arbitrary bytes."""
    if rng.random() < 0.02:
        return rng.randbytes(rng.randrange(200))
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 4)):
        rng.choice(_MUTATIONS)(rng, data, seeds)
    return bytes(data)


def _flip(rng: random.Random, data: bytearray, seeds: list[bytes]) -> None:
    if data:
        data[_near_start(rng, len(data))] ^= 1 << rng.randrange(8)


def _number(rng: random.Random, data: bytearray, seeds: list[bytes]) -> None:
    """Write a number at a limit, of any size and byte order."""
    size = rng.choice(_SIZES)
    if len(data) >= size:
        start = _near_start(rng, len(data) - size + 1)
        top = 1 << (8 * size)
        value = rng.choice([0, 1, top - 1, top // 2, top // 2 - 1, rng.randrange(top), len(data) % top])
        data[start : start + size] = value.to_bytes(size, rng.choice(["little", "big"]))


def _cut(rng: random.Random, data: bytearray, seeds: list[bytes]) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _delete(rng: random.Random, data: bytearray, seeds: list[bytes]) -> None:
    start = rng.randrange(len(data) + 1)
    del data[start : start + rng.randint(1, 16)]


def _insert(rng: random.Random, data: bytearray, seeds: list[bytes]) -> None:
    start = rng.randrange(len(data) + 1)
    data[start:start] = rng.randbytes(rng.randint(1, 16))


def _repeat(rng: random.Random, data: bytearray, seeds: list[bytes]) -> None:
    start = rng.randrange(len(data) + 1)
    data[start:start] = data[start : start + rng.randint(1, 64)] * rng.randint(1, 8)


def _splice(rng: random.Random, data: bytearray, seeds: list[bytes]) -> None:
    other = rng.choice(seeds)
    start = rng.randrange(len(data) + 1)
    data[start:] = other[min(start, len(other)) :]


def _near_start(rng: random.Random, size: int) -> int:
    """A position; every second one among the first 64, where headers are."""
    return rng.randrange(min(size, 64) if rng.random() < 0.5 else size)


_MUTATIONS = (_flip, _flip, _number, _number, _cut, _delete, _insert, _repeat, _splice)
