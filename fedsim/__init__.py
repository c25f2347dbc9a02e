"""fedsim: simulation of communication-efficient federated fine-tuning on Ray.

>>> import fedsim
>>> config = fedsim.load_config({"rounds": 2}, ["data.partition=dirichlet", "data.alpha=0.1"])
>>> config.data.alpha, config.method.name
(0.1, 'deltamask')

``fedsim.run(config)`` runs it and tells where the results are; ``fedsim.resume(path)`` goes on with a stopped one.
"""

from fedsim.config import Config, ConfigError, load_config
from fedsim.runner import Progress, RunResult, resume, run

__all__ = ["Config", "ConfigError", "Progress", "RunResult", "load_config", "resume", "run"]
