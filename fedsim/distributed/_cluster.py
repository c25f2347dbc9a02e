"""Connecting to Ray, and checking that the cluster can hold what a run asks for."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import ray
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.experimental.internal_kv import _internal_kv_get

from fedsim.errors import ConfigError, ResourceError
from fedsim.logs import level_of_ray
from fedsim.settings import ClusterSettings

#: Ray gives the resources of the last run's workers back a moment after they ended.
_RELEASE_SECONDS = 5

#: What Ray says of the local cluster that this process started.
_started: dict[str, str] = {}


@contextmanager
def connect(py_modules: Sequence[str] = ()) -> Iterator[None]:
    """Use the Ray of this process, the cluster of ``RAY_ADDRESS``, or a new local one.

    A local one serves all runs of the process, as each start of Ray leaves descriptors open and costs seconds. It ends
    with the process, or with a run that does not end well.

    Args:
        py_modules: folders of packages and ``.py`` files that workers import from a copy, on any node of the cluster of
            ``RAY_ADDRESS``. A local one reads them where they are.

    Raises:
        ConfigError: one of ``py_modules`` is not there, or the caller has connected to Ray and so chosen what workers
            import.
    """
    for path in py_modules:
        if not (os.path.isdir(path) or (path.endswith(".py") and os.path.isfile(path))):
            raise ConfigError(f"cluster.py_modules: found {path!r}, allowed: the folder of a package, or a .py file")
    if not ray.is_initialized():
        # Without an address, Ray would also join whatever cluster was last started on this machine.
        address = os.environ.get("RAY_ADDRESS") or "local"
        if address == "local":  # its first processes import what workers need while this one goes on
            os.environ.setdefault("RAY_preload_python_modules", "fedsim.distributed")
        carried = {"py_modules": list(py_modules)} if py_modules and address != "local" else None
        context = ray.init(
            address, include_dashboard=False, log_to_driver=False, logging_level=level_of_ray(), runtime_env=carried
        )
        if address != "local":
            try:
                yield
            finally:
                ray.shutdown()
            return
        _started.update(context.address_info)  # type: ignore[attr-defined]
        atexit.register(_stop, _started["session_dir"])
    elif py_modules and not _is_ours():
        raise ConfigError(
            f"cluster.py_modules: found {list(py_modules)}, allowed: none in a process that has connected to Ray; "
            "give them to ray.init(runtime_env={'py_modules': ...})"
        )
    try:
        yield
    except BaseException:
        if _is_ours():  # something of it may be broken; its logs stay
            atexit.unregister(_stop)
            ray.shutdown()
        raise


def _is_ours() -> bool:
    return ray.is_initialized() and ray.get_runtime_context().gcs_address == _started.get("gcs_address")


def _stop(session_dir: str) -> None:
    if _is_ours():
        ray.shutdown()
    shutil.rmtree(session_dir, ignore_errors=True)  # the logs of what went well; Ray itself keeps them for ever


def plan_workers(settings: ClusterSettings, cohort_size: int) -> int:
    """The number of workers to start: ``cluster.workers``, or as many as fit now, at most one a client of the cohort.

    Raises:
        ResourceError: the connected cluster cannot hold them and has no autoscaler that could add nodes for them.
    """
    need = {"CPU": settings.cpus_per_worker} | ({"GPU": settings.gpus_per_worker} if settings.gpus_per_worker else {})
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fitting = sum(_fitting(node, need) for node in nodes)
    wanted = settings.workers or max(1, min(fitting, _free(need, min(fitting, cohort_size)), cohort_size))
    if fitting >= wanted or _can_grow():  # workers wait for new nodes as long as cluster.start_seconds
        return wanted
    short = [
        f"{name}: {wanted} x {amount:g} wanted, the cluster has {sum(node.get(name, 0) for node in nodes):g}"
        for name, amount in need.items()
        if sum(_fitting(node, {name: amount}) for node in nodes) < wanted
    ]
    raise ResourceError(
        f"cluster.workers: found {wanted}, allowed: at most {fitting} on this cluster of {len(nodes)} node(s) ("
        + ("; ".join(short) or "no node has enough CPU and GPU together")
        + "). Lower cluster.workers, cluster.cpus_per_worker or cluster.gpus_per_worker, or add nodes."
    )


def _free(need: dict[str, float], wanted: int) -> int:
    """Workers that fit beside what runs now, counted over all nodes: it can be too many, but not too few."""
    patience = time.monotonic() + (_RELEASE_SECONDS if _is_ours() else 0)
    while (free := _fitting(ray.available_resources(), need)) < wanted and time.monotonic() < patience:
        time.sleep(0.05)
    return free


def _can_grow() -> bool:
    """Whether an autoscaler may add nodes to the connected cluster.

    Ray has no public way to ask, so this reads what its autoscalers leave in the cluster's store. On Kubernetes the
    second version is also on where it may add nothing; a request that is too large then waits in vain, and fails late.
    """
    if is_autoscaler_v2(fetch_from_server=True):
        return True
    report = json.loads(_internal_kv_get("__autoscaling_status") or "{}").get("autoscaler_report") or {}
    # The first version reports on clusters of a fixed size, too: there each node is a type of its own, node_ID.
    return any(not node_type.startswith("node_") for node_type in report.get("active_nodes", {}))


def _fitting(node: dict[str, float], need: dict[str, float]) -> int:
    """Workers that fit on one node."""
    return min(_count(name, node.get(name, 0.0), amount) for name, amount in need.items())


def _count(name: str, available: float, amount: float) -> int:
    # Fractions share a GPU but never span two.
    if name == "GPU" and amount < 1 and available >= 1:
        return int(available) * int(1 / amount + 1e-9)
    return int(available / amount + 1e-9)
