"""A sweep on a cluster that starts without workers, grows, loses a node and shrinks again.

The cluster is Ray's own autoscaler with the node provider of Ray's tests, which starts a node as processes here.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import fedsim
import results
from tests.processes import commands, kill, ray_processes, wait_for_exit, wait_until

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
RAYLET = b"/raylet/raylet"
RAY = str(Path(sys.executable).with_name("ray"))
HEAD_ID, HEAD_TYPE = "f" * 51 + "00000", "ray.head.default"  # the provider knows no others
_PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
_MEMORY = 100_000_000  # of a node's object store


class AutoscaledCluster:
    """A head without CPUs, and an autoscaler that adds up to three nodes of one CPU where work waits for them."""

    def __init__(self, folder: str, port: int) -> None:
        self._folder = folder
        self._port = port
        self._address = f"127.0.0.1:{port}"
        self.environment = {"RAY_ADDRESS": self._address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 32}

    def start(self) -> None:
        """Start the head, with the version of the autoscaler that `ray up` and KubeRay use."""
        config = Path(self._folder, "cluster.json")
        config.write_text(json.dumps(_config(self._address)))
        options = {
            "port": self._port,
            "num-cpus": 0,
            "object-store-memory": _MEMORY,
            "autoscaling-config": config,
            "temp-dir": self._folder,
            "include-dashboard": "false",
        }
        switches = {
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
            "RAY_NODE_TYPE_NAME": HEAD_TYPE,
            "RAY_USAGE_STATS_ENABLED": "0",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_health_check_period_ms": "1000",  # a killed node is noticed after 5 checks
        }
        subprocess.run(
            [RAY, "start", "--head", *(f"--{name}={value}" for name, value in options.items())],
            env=os.environ | self.environment | switches,
            check=True,
            capture_output=True,
        )

    def nodes(self) -> list[int]:
        """Process ids of the raylets of the nodes that the autoscaler added."""
        return [pid for pid, command in self._daemons().items() if RAYLET in command and b"--head" not in command]

    def close(self) -> None:
        """Kill all its processes, the autoscaler first: it would add nodes."""
        for mark in (b"/monitor.py", RAYLET, b""):
            kill(pid for pid, command in self._daemons().items() if mark in command)

    def _daemons(self) -> dict[int, bytes]:
        return {pid: command for pid, command in commands().items() if self._folder.encode() in command}


def _config(address: str) -> dict:
    worker = {"resources": {"CPU": 1, "object_store_memory": _MEMORY}, "node_config": {}, "max_workers": 3}
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
def cluster() -> Iterator[AutoscaledCluster]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="ray-")  # Ray's sockets need a short path
    before = ray_processes()
    cluster = AutoscaledCluster(folder, port)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()
    assert not wait_for_exit(ray_processes() - before, 20)
    shutil.rmtree(folder)


def test_a_sweep_starts_without_workers_survives_the_loss_of_a_node_and_leaves_none(cluster, terminal, tmp_path):
    (tmp_path / "sweep.yaml").write_text(json.dumps(SWEEP))
    assert not cluster.nodes()
    sweep = terminal("sweep", "sweep.yaml", environment=cluster.environment)
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
