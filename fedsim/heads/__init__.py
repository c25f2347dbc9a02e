"""Heads: one file a way to fit the classifier head in round 0, plus its line here."""

from __future__ import annotations

from fedsim.heads.base import FittedHeadSettings, Head
from fedsim.heads.fit import Fit
from fedsim.heads.linear_probe import LinearProbe
from fedsim.heads.ridge import RidgeHead
from fedsim.heads.untrained import JointHead, RandomHead
from fedsim.methods.head import HeadClient, HeadServer
from fedsim.registry import Registry

__all__ = ["HEADS", "FittedHeadSettings", "Head", "HeadClient", "HeadServer"]

HEADS: Registry[type[Head]] = Registry("head.name", [LinearProbe, RidgeHead, Fit, RandomHead, JointHead], base=Head)
