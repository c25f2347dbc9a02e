"""Federated methods: one file each plus its line here. Heads are methods that run for one round, before the others.

A method of another package is named as ``package.module:Class``.
"""

from __future__ import annotations

from deltamask.codecs import CODECS as _CODECS
from deltamask.codecs import Codec
from fedsim.heads._fit import Fit
from fedsim.heads._random import RandomHead
from fedsim.methods.base import Method, MethodClient, MethodServer
from fedsim.methods.bitfit import BitFit
from fedsim.methods.deepreduce import DeepReduceMethod
from fedsim.methods.deltamask import DeltaMask
from fedsim.methods.deltamask_plus import DeltaMaskPlus
from fedsim.methods.dense import DenseConfig, DenseMethod
from fedsim.methods.drive import DriveMethod
from fedsim.methods.eden import EdenMethod
from fedsim.methods.fedavg import FedAvg
from fedsim.methods.fedmask import FedMask
from fedsim.methods.fedpm import FedPM
from fedsim.methods.linear_probe import LinearProbe
from fedsim.methods.lora import Lora
from fedsim.methods.mask import MaskClient, MaskConfig, MaskServer
from fedsim.methods.qsgd import QsgdMethod
from fedsim.registry import ImportingRegistry, Registry

__all__ = [
    "CODECS",
    "DenseConfig",
    "DenseMethod",
    "HEADS",
    "METHODS",
    "MaskClient",
    "MaskConfig",
    "MaskServer",
    "Method",
    "MethodClient",
    "MethodServer",
]

METHODS: Registry[type[Method]] = ImportingRegistry(
    "method.name",
    [
        DeltaMask,
        DeltaMaskPlus,
        FedPM,
        FedMask,
        FedAvg,
        QsgdMethod,
        DriveMethod,
        EdenMethod,
        DeepReduceMethod,
        Lora,
        BitFit,
        LinearProbe,
    ],
    base=Method,
)
HEADS: Registry[type[Method]] = Registry("model.head", [LinearProbe, Fit, RandomHead])
CODECS: Registry[Codec] = Registry("method.codec", _CODECS.values())
