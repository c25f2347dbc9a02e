"""All of a run that knows Ray: the connection to a cluster, the driver actor and the workers."""

from fedsim.distributed._cluster import connect, plan_workers
from fedsim.distributed._driver import RemoteSimulation
from fedsim.distributed._executor import RayExecutor, start_workers
from fedsim.distributed._worker import Interrupted

__all__ = ["Interrupted", "RayExecutor", "RemoteSimulation", "connect", "plan_workers", "start_workers"]
