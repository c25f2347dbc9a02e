"""Federated methods: one file each plus its line here.

A method of another package is named as ``package.module:Class``.
"""

from __future__ import annotations

from fedsim.methods.base import ClientTask, Forward, MethodClient, MethodServer, Trained
from fedsim.methods.bitfit import BitFit
from fedsim.methods.codecs import CODECS
from fedsim.methods.compressed import DeepReduceMethod, DriveMethod, EdenMethod, QsgdMethod
from fedsim.methods.decomfl import DeComFL
from fedsim.methods.deltamask import DeltaMask
from fedsim.methods.deltamask_plus import DeltaMaskPlus
from fedsim.methods.dense import DenseMethod, DenseSettings
from fedsim.methods.fed_sb import FedSb
from fedsim.methods.fedavg import FedAvg
from fedsim.methods.fedex_lora import FedExLora
from fedsim.methods.fedkseed import FedKSeed
from fedsim.methods.fedmask import FedMask
from fedsim.methods.fedpm import FedPM
from fedsim.methods.ffa_lora import FfaLora
from fedsim.methods.klms import Klms
from fedsim.methods.linear_probe import LinearProbe
from fedsim.methods.lora import Lora
from fedsim.methods.mask import MaskClient, MaskServer
from fedsim.methods.mask_settings import MaskSettings
from fedsim.methods.phase import Method, Phase
from fedsim.methods.ridge import Ridge
from fedsim.registry import Registry

__all__ = [
    "CODECS",
    "ClientTask",
    "DenseMethod",
    "DenseSettings",
    "Forward",
    "METHODS",
    "MaskClient",
    "MaskServer",
    "MaskSettings",
    "Method",
    "MethodClient",
    "MethodServer",
    "Phase",
    "Trained",
]

METHODS: Registry[type[Method]] = Registry(
    "method.name",
    [
        DeltaMask,
        DeltaMaskPlus,
        FedPM,
        Klms,
        FedMask,
        FedAvg,
        QsgdMethod,
        DriveMethod,
        EdenMethod,
        DeepReduceMethod,
        Lora,
        FfaLora,
        FedExLora,
        FedSb,
        BitFit,
        FedKSeed,
        DeComFL,
        LinearProbe,
        Ridge,
    ],
    base=Method,
)
