"""Differential privacy of clients: bounds of what one client adds to a round, noise of the sum, and who serves what."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

import deltamask as dm
from fedsim.settings import Members, MethodSettings, PrivacySettings, TrainSettings

_ROUNDS = "noised_rounds"
#: Keys of local training that are of no use where each sample's gradient is clipped, and their only values.
_PLAIN: dict[str, tuple[Any, str]] = {
    "together": (1, "clients are trained one by one"),
    "compile": (False, "steps are not compiled"),
    "logit_adjustment": (None, "it makes each sample's gradient depend on the labels of all"),
}


def gaussian(key: int, size: int) -> np.ndarray:
    """Standard normal noise of a stream, float64 of shape ``(size,)``, the same on every device."""
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(size)


class ClientPrivacy:
    """The Gaussian mechanism on a round's sum of client updates, each of bounded L2 norm.

    McMahan et al., "Learning Differentially Private Recurrent Language Models" (ICLR 2018). The noise of a round
    follows from the seed and from the rounds before it, so that a run that is resumed draws the same.

    Args:
        settings: of privacy.
        seed: of the experiment.

    Attributes:
        on: whether updates are bounded.
    """

    def __init__(self, settings: PrivacySettings, seed: int) -> None:
        self._clip, self._noise, self._seed = settings.client_clip, settings.client_noise, seed
        self._rounds = 0
        self.on = self._clip is not None

    @property
    def most_flips(self) -> int | None:
        """Flips that one client's mask may have, whose L2 norm is their root; None where they are not bounded."""
        return None if self._clip is None else math.floor(self._clip**2)

    def clipped(self, update_d: np.ndarray) -> np.ndarray:
        """An update, floats of shape ``(d,)``, scaled down to the largest norm where it is longer."""
        if self._clip is None:
            return update_d
        norm = float(np.linalg.norm(update_d.astype(np.float64)))
        return update_d if norm <= self._clip else (update_d * (self._clip / norm)).astype(update_d.dtype)

    def limited(self, decoded: dm.Decoded, key: int) -> dm.Decoded:
        """A mask with as many of its flips as are allowed, drawn by the stream of its round and client."""
        if self.most_flips is None or decoded.flips.size <= self.most_flips:
            return decoded
        rng = np.random.Generator(np.random.Philox(key=dm.stream_key(key, "limited")))
        flips = np.sort(rng.choice(decoded.flips, self.most_flips, replace=False))
        mask_d = decoded.reference_d.copy()
        mask_d[flips] = ~mask_d[flips]
        return dm.Decoded(mask_d, decoded.reference_d, flips)

    def noise(self, size: int, unit: float = 1.0) -> np.ndarray:
        """The next round's noise of a sum, float64 of shape ``(size,)``; an update of norm 1 moves it by ``unit``."""
        self._rounds += 1
        deviation = unit * self._noise * (self._clip or 0.0)
        return deviation * gaussian(dm.stream_key(self._seed, "client noise", self._rounds), size)

    def state(self) -> dict[str, np.ndarray]:
        """All that must survive a crash between two rounds; nothing where updates are not bounded."""
        return {_ROUNDS: np.array([self._rounds], np.int64)} if self.on else {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take back what :meth:`state` gave."""
        if self.on:
            self._rounds = int(state[_ROUNDS][0])


def check_privacy(
    privacy: PrivacySettings, methods: Members, params: MethodSettings, train: TrainSettings | None
) -> None:
    """Refuse what a method or its training cannot do privately.

    A client half that clips gradients has ``clips_gradients = True`` beside its ``train``, a server half that bounds
    clients and adds noise ``adds_noise = True`` beside its ``decode``: a subclass that changes one alone promises
    nothing.

    Args:
        privacy: the settings.
        methods: the registry of methods.
        params: of the chosen method.
        train: of local training.

    Raises:
        ValueError: names the key.
    """
    if privacy.clip is not None:
        _check_method("clip", privacy.clip, methods, params.name, "Client", "train", "clips_gradients")
        for key, (only, reason) in _PLAIN.items():
            if (found := getattr(train, key)) != only:
                allowed = "null" if only is None else str(only).lower()
                raise ValueError(
                    f"train.{key}: found {found}, allowed: {allowed} where privacy.clip is given: {reason}"
                )
    if privacy.client_clip is not None:
        _check_method("client_clip", privacy.client_clip, methods, params.name, "Server", "decode", "adds_noise")
        if params.cut is not None:
            raise ValueError(
                f"method.{params.cut}: found {getattr(params, params.cut)!r}, allowed: none where privacy.client_clip "
                "is given: its noise is that of a plain sum"
            )
        if params.weighted:
            raise ValueError(
                "method.weighting: found samples, allowed: uniform where privacy.client_clip is given: it bounds a "
                "client's update, not its weight"
            )


def _check_method(key: str, value: float, methods: Members, name: str, half: str, hook: str, promise: str) -> None:
    def serves(method: Any) -> bool:
        owner = next(one for one in getattr(method, half).__mro__ if hook in vars(one))
        return bool(vars(owner).get(promise, False))

    if not serves(methods.get(name)):
        others = ", ".join(method.name for method in methods if serves(method))
        raise ValueError(f"privacy.{key}: found {value} with {name}, allowed: null, or a method of: {others}")
