"""The simulated world of clients: their links and devices, and the time that a round takes there."""

from fedsim.world._clients import PROFILES, ClientWorld, Home
from fedsim.world._clock import Clock, Times
from fedsim.world._flops import Flops

__all__ = ["PROFILES", "ClientWorld", "Clock", "Flops", "Home", "Times"]
