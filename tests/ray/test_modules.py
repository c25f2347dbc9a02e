"""A package of the user's own on a cluster whose other nodes cannot see it."""

import os
import subprocess
import sys

import pytest
import ray

import fedsim
from fedsim.distributed import connect
from tests.terminal import environment

#: Both are gone once Ray is connected: what workers import is the copy.
CODE = """
import os, shutil, ray
from fedsim.distributed import connect

@ray.remote(num_cpus=0)
def value():
    import my_package.inner, my_module
    return my_package.inner.VALUE + my_module.VALUE

with connect(["my_package", "my_module.py"]):
    shutil.rmtree("my_package"), os.remove("my_module.py")
    print(ray.get(value.remote()))
"""


def test_workers_import_copies_of_modules(ray_cluster, tmp_path):
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").touch()
    (tmp_path / "my_package" / "inner.py").write_text("VALUE = 40")
    (tmp_path / "my_module.py").write_text("VALUE = 2")
    variables = environment() | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.stdout.split()[-1:] == ["42"], done.stderr


def test_what_cannot_be_carried_is_refused(ray_cluster, tmp_path):
    (tmp_path / "module.py").touch()
    for path, message in ((tmp_path / "absent", "a .py file"), (tmp_path / "module.py", "has connected to Ray")):
        with pytest.raises(fedsim.ConfigError, match=message), connect([str(path)]):
            pass
