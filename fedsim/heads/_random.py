"""A random head: the server draws it, and clients send nothing but the frame."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from deltamask import stream_key
from fedsim.methods.base import Absorbed, ClientTask, Method, Upload
from fedsim.methods.head import HeadClient, HeadServer
from fedsim.methods.wire import pack_tensors, unpack_tensors


class _Client(HeadClient):
    def train(self, state: Any, task: ClientTask) -> Upload:
        return Upload(pack_tensors({}), None, 0.0, 0.0)


class _Server(HeadServer):
    def absorb(self, round_index: int, client: int, samples: int, payload: bytes) -> Absorbed:
        started = time.perf_counter()
        unpack_tensors(payload, {})
        return Absorbed(time.perf_counter() - started)

    def finish_round(self) -> None:
        rng = np.random.Generator(np.random.Philox(key=stream_key(self.config.seed, "random head")))
        classes, size = self.model.head.weight.shape
        weight = rng.normal(0, np.sqrt(2 / size), (classes, size)).astype(np.float32)
        self.model.load_head({"weight": weight, "bias": np.zeros(classes, np.float32)})


class RandomHead(Method):
    """He initialisation (He et al. 2015) from the run's seed, never trained."""

    name = "random"
    summary = "He initialisation, not trained; the masks have to fit it"
    Client, Server = _Client, _Server
