"""A sweep on a cluster that starts without workers, grows, loses a node and shrinks again.

The cluster is Ray's own autoscaler with the node provider of Ray's tests, which starts a node as processes here.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import fedsim
import results
from tests.clusters import MEMORY, LocalCluster
from tests.processes import kill, wait_until

SWEEP = {
    "base": {
        "rounds": 60,
        "data": {"train_samples": 200, "test_samples": 100},
        "partition": {"clients": 4},
        "model": {"masked_blocks": 1},
        "cluster": {"workers": 1},
    },
    "space": {"seed": {"grid": [0, 1]}},
}
SAME = ["run_id", "round", "accuracy", "loss", "uplink_bytes", "downlink_bytes", "state_digest"]
HEAD_ID, HEAD_TYPE = "f" * 51 + "00000", "ray.head.default"  # the provider knows no others
_PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"


def _config(address: str) -> dict:
    worker = {"resources": {"CPU": 1, "object_store_memory": MEMORY}, "node_config": {}, "max_workers": 3}
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    provider = {"type": "external", "module": _PROVIDER, "gcs_address": address, "head_node_id": HEAD_ID}
    lists = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    return {
        "cluster_name": "test",
        "provider": provider | {"use_node_id_as_ip": True, "launch_multiple": True, "disable_node_updaters": True},
        "auth": {"ssh_user": "nobody"},
        "max_workers": 3,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.05,
        "head_node_type": HEAD_TYPE,
        "available_node_types": {HEAD_TYPE: head, "worker": worker},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        **{f"{name}_commands": [] for name in lists},
    }


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """A head without CPUs, and an autoscaler that adds up to three nodes of one CPU where work waits for them."""
    switches = {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",  # the version that `ray up` and KubeRay use
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_NODE_TYPE_NAME": HEAD_TYPE,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    with LocalCluster() as cluster:
        config = Path(cluster.folder, "cluster.json")
        config.write_text(json.dumps(_config(cluster.address)))
        cluster.start_head(switches, num_cpus=0, autoscaling_config=config)
        yield cluster


@pytest.mark.long
def test_a_sweep_starts_without_workers_survives_the_loss_of_a_node_and_leaves_none(cluster, terminal, tmp_path):
    (tmp_path / "sweep.yaml").write_text(json.dumps(SWEEP))
    assert not cluster.nodes()
    sweep = terminal("sweep", "sweep.yaml", **cluster.environment)
    sweep.read_until(b"/60")
    wait_until(lambda: len(cluster.nodes()) == 2, 60)
    nodes = cluster.nodes()
    kill(nodes[:1])
    assert sweep.wait(120) == 0, sweep.output[-1000:]
    loaded = results.load(tmp_path / "runs")
    assert loaded.runs["status"].tolist() == ["finished", "finished"]
    for seed in (0, 1):
        base = {**SWEEP["base"], "cluster": {"executor": "serial"}, "seed": seed, "output": f"{tmp_path}/serial"}
        fedsim.run(fedsim.load_config(base))
    assert loaded.rounds[SAME].equals(results.load(tmp_path / "serial").rounds[SAME])
    wait_until(lambda: not cluster.nodes(), 60)
