"""Privacy accounting: the epsilon that clients have spent, where the privacy group adds noise; columns of the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fedsim.config import Config
from fedsim.errors import ConfigError
from fedsim.heads import FittedHeadSettings
from fedsim.methods.dp_sgd import sampling


class PrivacyAccounting:
    """Renyi accountants of samples and of clients, by Opacus.

    Mironov, Talwar, Zhang: "Renyi Differential Privacy of the Sampled Gaussian Mechanism" (2019). What is spent follows
    from who was asked, lost clients too. Round 0 is not counted.

    Args:
        config: the experiment.
        samples: of each client, int64 of shape ``(clients,)``.

    Attributes:
        rounds_of: rounds of the method in which a client was asked, by client.

    Raises:
        ConfigError: Opacus is missing.
    """

    def __init__(self, config: Config, samples: np.ndarray) -> None:
        self._config, self._samples = config, samples
        self.rounds_of: Counter[int] = Counter()
        self._of_a_step: dict[tuple[float, float], np.ndarray] = {}
        try:
            from opacus.accountants import RDPAccountant
            from opacus.accountants.analysis import rdp
        except ImportError as error:
            raise ConfigError(
                f"privacy: found {config.privacy.model_dump(exclude_defaults=True)}, allowed: none without Opacus, "
                f"which counts epsilon: pip install 'deltamask[privacy]' ({error})"
            ) from error
        self._rdp, self._orders = rdp, RDPAccountant.DEFAULT_ALPHAS

    @property
    def warning(self) -> str | None:
        """Names the round that no noise covers; None where the head needs no data."""
        if not isinstance(self._config.head, FittedHeadSettings):
            return None
        return f"privacy: round 0 fits head.name={self._config.head.name} without noise, and no epsilon counts it"

    def round(self, round_index: int, clients: Iterable[Mapping[str, Any]]) -> dict[str, float]:
        """Columns of the ``rounds`` table from rows of ``clients``: what is spent from round 1 on, none for round 0."""
        if round_index:
            self.rounds_of.update(row["client"] for row in clients)
        privacy, columns = self._config.privacy, dict[str, float]()
        if round_index and privacy.noise:
            columns["epsilon"] = max(self._epsilon(privacy.noise, *spent) for spent in self._steps())
        if round_index and privacy.client_noise:
            rate = self._config.cohort_size / self._config.partition.clients
            columns["client_epsilon"] = self._epsilon(privacy.client_noise, rate, round_index)
        return columns

    def _steps(self) -> set[tuple[float, int]]:
        """Sampling rates and numbers of steps of all clients so far, each pair once."""
        train = self._config.train
        assert train is not None
        spent = set()
        for samples, rounds in {(int(self._samples[client]), count) for client, count in self.rounds_of.items()}:
            rate, steps = sampling(train, samples)
            spent.add((rate, rounds * steps))
        return spent

    def _epsilon(self, noise: float, rate: float, steps: int) -> float:
        """The epsilon of so many steps of the sampled Gaussian mechanism, at ``privacy.delta``."""
        key = (noise, rate)
        if key not in self._of_a_step:
            self._of_a_step[key] = self._rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=self._orders)
        spent: Any = steps * self._of_a_step[key]
        epsilon, _ = self._rdp.get_privacy_spent(orders=self._orders, rdp=spent, delta=self._config.privacy.delta)
        return float(epsilon)
