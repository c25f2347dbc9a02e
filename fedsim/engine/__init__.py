"""The round without Ray: server state, local training, and a run from its start or its checkpoint to its end.

``README.md`` beside this file explains how the parts work together.
"""

from fedsim.engine._estimate import Estimate, estimate
from fedsim.engine._executors import Executor, SerialExecutor
from fedsim.engine._federation import Federation
from fedsim.engine._phases import make_clients, make_model
from fedsim.engine._rows import RoundOutcome, run_row
from fedsim.engine._simulation import Simulation
from fedsim.engine._trainer import LocalTrainer, set_threads
from fedsim.engine._types import Broadcast, EvaluationSums, PhaseName, Prepared, Ready, Upload

__all__ = [
    "Broadcast",
    "Estimate",
    "EvaluationSums",
    "Executor",
    "Federation",
    "LocalTrainer",
    "PhaseName",
    "Prepared",
    "Ready",
    "RoundOutcome",
    "SerialExecutor",
    "Simulation",
    "Upload",
    "estimate",
    "make_clients",
    "make_model",
    "run_row",
    "set_threads",
]
