"""Hostile clients: who they are, what they make of what they learned, and bytes that they damage."""

from __future__ import annotations

import numpy as np

from deltamask import stream_key
from fedsim.settings import WorldSettings


def is_hostile(settings: WorldSettings, seed: int, client: int) -> bool:
    """Whether a client is one of the hostile ones, for all of an experiment."""
    return settings.hostile > 0 and stream_key(seed, "hostile", client) / 2**64 < settings.hostile


def attacked(change_d: np.ndarray, settings: WorldSettings, key: int) -> np.ndarray:
    """The opposite of a change, or its entries in random order, which is noise as large; scaled, float32."""
    scale = np.float32(settings.attack_scale)
    if settings.attack == "sign-flip":
        return -scale * change_d
    return scale * np.random.Generator(np.random.Philox(key=key)).permutation(change_d)


def damaged(payload: bytes, key: int) -> bytes:
    """The same bytes with one to eight of them changed."""
    rng = np.random.Generator(np.random.Philox(key=key))
    content = np.frombuffer(payload, np.uint8).copy()
    places = rng.choice(content.size, min(content.size, int(rng.integers(1, 9))), replace=False)
    content[places] ^= rng.integers(1, 256, len(places), np.uint8)
    return content.tobytes()
