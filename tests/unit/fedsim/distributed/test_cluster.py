"""How many workers fit, from what Ray says of its nodes and its autoscaler."""

import json

import pytest

from fedsim import ResourceError
from fedsim.distributed._cluster import plan_workers
from fedsim.distributed._queue import balanced_shards
from fedsim.settings import ClusterSettings


@pytest.fixture
def nodes(monkeypatch):
    """Sets the nodes that the cluster claims to have: GPU nodes cannot be had for a test."""

    def claim(*resources, free=None):
        total = {name: sum(r.get(name, 0) for r in resources) for name in ("CPU", "GPU")}
        monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": dict(r)} for r in resources])
        monkeypatch.setattr("ray.available_resources", lambda: total | (free or {}))

    return claim


@pytest.fixture(autouse=True)
def autoscaler(monkeypatch):
    """Sets what the cluster claims of its autoscaler; a cluster of a fixed size when not called."""

    def claim(version, node_types):
        report = {"autoscaler_report": {"active_nodes": dict.fromkeys(node_types, 1)}} if node_types else {}
        monkeypatch.setattr("fedsim.distributed._cluster.is_autoscaler_v2", lambda fetch_from_server: version == 2)
        monkeypatch.setattr("fedsim.distributed._cluster._internal_kv_get", lambda key: json.dumps(report).encode())

    claim(1, ["node_fffff00000", "node_fffff00001"])
    return claim


@pytest.mark.parametrize(
    ("config", "resources", "expected"),
    [
        ({}, [{"CPU": 8}], 8),
        ({"cpus_per_worker": 3}, [{"CPU": 8}, {"CPU": 2}], 2),
        ({"workers": 2}, [{"CPU": 8}], 2),
        ({"gpus_per_worker": 0.25}, [{"CPU": 16, "GPU": 2}], 8),
        ({"gpus_per_worker": 0.3}, [{"CPU": 16, "GPU": 2}], 6),
        ({"gpus_per_worker": 2}, [{"CPU": 16, "GPU": 5}], 2),
        ({"gpus_per_worker": 1}, [{"CPU": 2, "GPU": 8}, {"CPU": 64}], 2),
        ({"cpus_per_worker": 0.5}, [{"CPU": 2}], 4),
        ({"cpus_per_worker": 0.6}, [{"CPU": 2}], 3),
    ],
)
def test_workers_that_fit(nodes, config, resources, expected):
    nodes(*resources)
    assert plan_workers(ClusterSettings(**config), cohort_size=100) == expected


def test_what_others_hold_is_left_to_them_but_one_worker_is_always_tried(nodes):
    nodes({"CPU": 8}, free={"CPU": 3})
    assert plan_workers(ClusterSettings(), cohort_size=100) == 3
    nodes({"CPU": 8}, free={"CPU": 0})
    assert plan_workers(ClusterSettings(), cohort_size=100) == 1


def test_no_more_workers_than_clients(nodes):
    nodes({"CPU": 64})
    assert plan_workers(ClusterSettings(), cohort_size=3) == 3


@pytest.mark.parametrize(
    ("config", "resources", "message"),
    [
        ({"workers": 3}, {"CPU": 2}, "found 3, allowed: at most 2.*CPU: 3 x 1 wanted, the cluster has 2"),
        ({"gpus_per_worker": 0.5}, {"CPU": 2}, "GPU: 1 x 0.5 wanted, the cluster has 0"),
        ({"cpus_per_worker": 4}, {"CPU": 2}, "CPU: 1 x 4 wanted, the cluster has 2"),
    ],
)
def test_what_is_short_is_said(nodes, config, resources, message):
    nodes(resources)
    with pytest.raises(ResourceError, match=message):
        plan_workers(ClusterSettings(**config), cohort_size=10)


def test_cpu_and_gpu_on_different_nodes_are_no_room(nodes):
    nodes({"CPU": 8}, {"CPU": 0, "GPU": 8})
    with pytest.raises(ResourceError, match="no node has enough CPU and GPU together"):
        plan_workers(ClusterSettings(gpus_per_worker=1, workers=1), cohort_size=10)


AUTOSCALERS = [(1, ["ray.head.default"]), (2, [])]


@pytest.mark.parametrize(("version", "node_types"), AUTOSCALERS)
@pytest.mark.parametrize(
    ("config", "resources", "expected"),
    [
        ({"workers": 3}, [{"CPU": 0}], 3),
        ({"workers": 3}, [{"CPU": 2}], 3),
        ({"workers": 1, "gpus_per_worker": 1}, [{"CPU": 8}], 1),
        ({}, [{}], 1),
        ({}, [{}, {"CPU": 4}], 4),
    ],
)
def test_an_autoscaler_may_add_what_does_not_fit_now(
    nodes, autoscaler, version, node_types, config, resources, expected
):
    nodes(*resources)
    autoscaler(version, node_types)
    assert plan_workers(ClusterSettings(**config), cohort_size=10) == expected


def test_a_cluster_that_reports_nothing_has_a_fixed_size(nodes, autoscaler):
    nodes({"CPU": 2})
    autoscaler(1, [])
    with pytest.raises(ResourceError, match="found 3"):
        plan_workers(ClusterSettings(workers=3), cohort_size=10)


def test_shards_are_balanced_by_samples():
    import numpy as np

    sizes = np.random.default_rng(0).pareto(1.5, 1000).astype(int) + 1
    owner = balanced_shards(sizes, 7)
    loads = np.bincount(owner, weights=sizes, minlength=7)
    assert loads.max() - loads.min() <= sizes.min() + 1 or loads.max() == sizes.max()
