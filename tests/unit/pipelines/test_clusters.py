"""The recipes for clusters: valid for Ray, closed to the world, and costing nothing while idle."""

import copy
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[3]
CLUSTER = ROOT / "pipelines" / "cluster"


@pytest.fixture(params=["aws", "gcp"])
def cloud(request):
    return yaml.safe_load((CLUSTER / f"{request.param}.yaml").read_text())


@pytest.fixture
def job():
    return yaml.safe_load((CLUSTER / "kuberay.yaml").read_text())


def test_ray_accepts_the_clouds(cloud):
    prepared = prepare_config(copy.deepcopy(cloud))
    validate_config(prepared)
    assert prepared["available_node_types"].keys() == {"head", "gpu_worker", "cpu_worker"}


def test_ray_would_not_accept_a_misspelt_key(cloud):
    import jsonschema

    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        validate_config(prepare_config(cloud | {"idle_timeout": 5}))


def test_workers_are_spot_and_go_when_idle_and_the_head_takes_none(cloud):
    types = cloud["available_node_types"]
    head = types.pop(cloud["head_node_type"])
    assert head["resources"] == {"CPU": 0}
    assert "--num-cpus=0" in " ".join(cloud["head_start_ray_commands"])
    for worker in types.values():
        assert worker["min_workers"] == 0 < worker["max_workers"] <= cloud["max_workers"]
        config = worker["node_config"]
        assert "spot" in str(config.get("InstanceMarketOptions", config.get("scheduling"))).lower()
    assert any(worker["resources"].get("GPU") for worker in types.values())
    assert 0 < cloud["idle_timeout_minutes"] <= 10


def test_every_ray_process_of_the_clouds_asks_for_the_token(cloud):
    assert cloud["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    starts = [c for c in cloud["head_start_ray_commands"] + cloud["worker_start_ray_commands"] if "ray start" in c]
    assert len(starts) == 2
    assert all(re.search(r"RAY_AUTH_MODE=token \S+/ray start", command) for command in starts)
    assert any("export RAY_AUTH_MODE=token" in command for command in cloud["setup_commands"])


def test_nothing_is_open_to_the_world(cloud):
    assert "0.0.0.0" not in str(cloud)
    assert "IpPermissions" not in str(cloud)  # Ray's own group lets in SSH alone
    assert "--dashboard-host=127.0.0.1" in " ".join(cloud["head_start_ray_commands"])


def test_the_kubernetes_job_scales_from_zero_with_authentication(job):
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    assert f"ray=={cluster['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    [group] = cluster["workerGroupSpecs"]
    assert group["replicas"] == group["minReplicas"] == 0 < group["maxReplicas"]
    for pods in (cluster["headGroupSpec"], group):
        spec = pods["template"]["spec"]
        [container] = spec["containers"]
        assert spec["restartPolicy"] == "Never"  # the autoscaler replaces pods; a restarted one would be another node
        assert container["resources"]["requests"] == container["resources"]["limits"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_slurm_script_parses_and_uses_the_token():
    script = CLUSTER / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    assert "export RAY_AUTH_MODE=token" in script.read_text()
