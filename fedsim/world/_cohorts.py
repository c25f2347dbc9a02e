"""Cohorts: which of the registered clients that are there are asked in a round."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

import deltamask as dm


class Cohorts:
    """Seeded draws of clients, without replacement, of those who are there.

    Args:
        seed: of the experiment.
        clients: registered clients.
        weights: of the clients, float64 of shape ``(clients,)``; None: all alike.
    """

    def __init__(self, seed: int, clients: int, weights: np.ndarray | None = None) -> None:
        self._seed, self._clients, self._weights = seed, clients, weights

    def draw(
        self, round_index: int, size: int, there: Callable[[int], bool] | None = None, attempt: int = 0
    ) -> list[int]:
        """Clients of a round, ascending: so many, or all who are there where these are fewer.

        The cost is that of the clients that are looked at, but for weighted draws, which look at all weights.

        Args:
            round_index: the round.
            size: clients to draw.
            there: whether a client is; None: all are.
            attempt: sets the draws of a round that is tried again apart.
        """
        which = [attempt] if attempt else []
        rng = np.random.Generator(np.random.Philox(key=dm.stream_key(self._seed, "cohort", round_index, *which)))
        found: list[int] = []
        for candidates in self._candidates(rng, min(size, self._clients)):
            found = [client for client in candidates.tolist() if there is None or there(client)][:size]
            if len(found) == size:
                break
        return sorted(found)

    def _candidates(self, rng: np.random.Generator, size: int) -> Iterator[np.ndarray]:
        """Random orders of ever more clients, at last of all of them."""
        if self._weights is not None:
            # The order of draws by weight (Efraimidis, Spirakis: "Weighted random sampling with a reservoir", 2006).
            yield np.argsort(rng.exponential(size=self._clients) / self._weights)
            return
        while True:
            yield rng.choice(self._clients, size, replace=False)
            if size == self._clients:
                return
            size = min(4 * size, self._clients)
