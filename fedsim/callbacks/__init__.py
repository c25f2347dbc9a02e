"""Callbacks: who is told of a run while it goes on, and the loggers among them that the ``log`` group asks for."""

from fedsim.callbacks._callback import Callback, Run, Sweep
from fedsim.callbacks._group import CallbackGroup
from fedsim.callbacks._loggers import loggers

__all__ = ["Callback", "CallbackGroup", "Run", "Sweep", "loggers"]
