"""The simulated world of clients: links and devices, who is there and is asked, and the time that a round takes."""

from fedsim.world._clients import PROFILES, ClientWorld, Home, Times
from fedsim.world._cohorts import Cohorts
from fedsim.world._flops import Flops
from fedsim.world._hostile import attacked, damaged, is_hostile
from fedsim.world._presence import Always, Daily, Presence, Traces, make_presence

__all__ = [
    "PROFILES",
    "Always",
    "ClientWorld",
    "Cohorts",
    "Daily",
    "Flops",
    "Home",
    "Presence",
    "Times",
    "Traces",
    "attacked",
    "damaged",
    "is_hostile",
    "make_presence",
]
