"""Readers of the library's server and client."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import deltamask as dm
from tests.fuzz.target import Target

D = 2000
OPTIONS = {"seed": 0, "codec": "fuse8+png", "max_weight": 100}


def sessions() -> Iterator[Target]:
    """Uploads, messages and saved states; whatever is refused leaves both ends as they were."""
    server, client = dm.Server(dm.BetaPosterior(D), relay=True, **OPTIONS), dm.Client(1, dm.BetaPosterior(D), **OPTIONS)
    whole = server.message()
    client.receive(whole)
    moved_d = np.clip(client.theta_d - np.linspace(0, 0.2, D, dtype=np.float32), 0, 1)
    upload = client.upload(moved_d, weight=7).payload
    server.accept(1, upload)
    seeds = {"upload": upload, "server": server.to_bytes(), "client": client.to_bytes()}
    server.step()
    changed = server.message(1)

    def parse(name: str, data: bytes) -> None:
        end = (
            dm.Server(dm.BetaPosterior(D), **OPTIONS)
            if name in ("upload", "server")
            else dm.Client(1, dm.BetaPosterior(D), **OPTIONS)
        )
        if name == "message":
            end.restore(seeds["client"])
        before = end.to_bytes()
        try:
            {"upload": lambda: end.accept(1, data), "message": lambda: end.receive(data)}.get(
                name, lambda: end.restore(data)
            )()
        except dm.PayloadError:
            assert end.to_bytes() == before
            raise

    for name, found in {**{name: [data] for name, data in seeds.items()}, "message": [whole, changed]}.items():
        yield Target(f"session {name}", 0.1, found, lambda data, name=name: parse(name, data), dm.PayloadError)
