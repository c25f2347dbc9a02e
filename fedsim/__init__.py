"""fedsim: simulation of communication-efficient federated fine-tuning on Ray.

>>> import fedsim
>>> config = fedsim.load_config({"rounds": 2}, ["partition.name=dirichlet", "partition.alpha=0.1"])
>>> config.partition.alpha, config.method.name
(0.1, 'deltamask')

``fedsim.run(config)`` runs it and tells where the results are; ``fedsim.resume(path)`` goes on with a stopped one.
``fedsim.sweep("sweep.yaml")`` runs many.
"""

from fedsim.callbacks import Callback, Run
from fedsim.config import Config, load_config
from fedsim.errors import (
    CallbackError,
    CheckpointError,
    ClientError,
    ConfigError,
    FedsimError,
    ResourceError,
    WorkerLostError,
)
from fedsim.runner import RunResult, resume, run
from fedsim.sweeps import sweep

__all__ = [
    "Callback",
    "CallbackError",
    "CheckpointError",
    "ClientError",
    "Config",
    "ConfigError",
    "FedsimError",
    "ResourceError",
    "Run",
    "RunResult",
    "WorkerLostError",
    "load_config",
    "resume",
    "run",
    "sweep",
]
