"""Connecting to Ray, and checking that the cluster can hold what a run asks for."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from fedsim.config import ClusterConfig
from fedsim.errors import ResourceError


@contextmanager
def connect() -> Iterator[None]:
    """Use the Ray of this process, the cluster of ``RAY_ADDRESS``, or a new local one, stopped in the end."""
    if ray.is_initialized():
        yield
        return
    # Without an address, Ray would also join whatever cluster was last started on this machine.
    address = os.environ.get("RAY_ADDRESS") or "local"
    ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def plan_workers(config: ClusterConfig, cohort_size: int) -> int:
    """How many workers to start: ``cluster.workers``, or as many as fit, at most one a client of the cohort.

    Raises:
        ResourceError: the connected cluster cannot hold them; without this check their start would wait for ever.
    """
    need = {"CPU": config.cpus_per_worker} | ({"GPU": config.gpus_per_worker} if config.gpus_per_worker else {})
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fitting = sum(_fitting(node, need) for node in nodes)
    free = _fitting(ray.available_resources(), need)  # over all nodes, so it can be too many but not too few
    wanted = config.workers or max(1, min(fitting, free, cohort_size))
    if fitting >= wanted:
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


def _fitting(node: dict[str, float], need: dict[str, float]) -> int:
    """Workers that fit on one node."""
    return min(_count(name, node.get(name, 0.0), amount) for name, amount in need.items())


def _count(name: str, available: float, amount: float) -> int:
    # Fractions share a GPU but never span two.
    if name == "GPU" and amount < 1 and available >= 1:
        return int(available) * int(1 / amount + 1e-9)
    return int(available / amount + 1e-9)
