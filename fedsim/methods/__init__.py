"""Federated methods: one file each plus its line here. Heads are methods that run for one round, before the others."""

from __future__ import annotations

from deltamask.codecs import CODECS as _CODECS
from deltamask.codecs import Codec
from fedsim.methods.base import Method, MethodClient, MethodServer
from fedsim.methods.deltamask import DeltaMask
from fedsim.methods.fedavg import FedAvg
from fedsim.methods.fit import Fit
from fedsim.methods.linear_probe import LinearProbe
from fedsim.methods.random_head import RandomHead
from fedsim.registry import Registry

__all__ = ["CODECS", "HEADS", "METHODS", "Method", "MethodClient", "MethodServer"]

METHODS: Registry[type[Method]] = Registry("method.name", [DeltaMask, FedAvg, LinearProbe])
HEADS: Registry[type[Method]] = Registry("model.head", [LinearProbe, Fit, RandomHead])
CODECS: Registry[Codec] = Registry("method.codec", _CODECS.values())
