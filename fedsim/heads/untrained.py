"""Heads for which clients send nothing but the frame: a random frozen one, and one that the method trains."""

from __future__ import annotations

from typing import Any

import numpy as np

from deltamask import stream_key
from fedsim.heads.base import Head
from fedsim.methods.base import ClientTask, Trained
from fedsim.methods.head import HeadClient, HeadServer
from fedsim.settings import HeadSettings


class _Client(HeadClient[HeadSettings]):
    def train(self, state: Any, task: ClientTask) -> Trained:
        return Trained({})


class _RandomServer(HeadServer[HeadSettings]):
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {}

    def head(self, sums: dict[str, np.ndarray], weight: int) -> dict[str, np.ndarray]:
        rng = np.random.Generator(np.random.Philox(key=stream_key(self.experiment.seed, "random head")))
        classes, size = self.model.head.weight.shape
        return {"weight": rng.normal(0, np.sqrt(2 / size), (classes, size)), "bias": np.zeros(classes)}


class _JointServer(_RandomServer):
    def head(self, sums: dict[str, np.ndarray], weight: int) -> dict[str, np.ndarray]:
        return {}


class RandomHead(Head):
    """He initialisation (He et al. 2015) from the run's seed, never trained."""

    name = "random"
    summary = "He initialisation, not trained; the masks have to fit it"
    Client, Server = _Client, _RandomServer


class JointHead(Head):
    """Part of what the method trains, from PyTorch's initialisation of a linear layer, the same in every run.

    For networks that are trained whole, such as the small ones that other simulators are compared on.
    """

    name = "joint"
    summary = "no frozen head: the method trains it together with the blocks"
    joint = True
    Client, Server = _Client, _JointServer
