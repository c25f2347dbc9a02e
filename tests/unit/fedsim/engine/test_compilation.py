"""Kernels are compiled before the first round, so that no round's time holds a compilation."""

import subprocess
import sys

import pytest

_COUNT = """
import gc, sys
from numba.core.dispatcher import Dispatcher
from fedsim.testing import small_config
from fedsim.engine import Federation, SerialExecutor

def compiled():
    kernels = [one for one in gc.get_objects() if isinstance(one, Dispatcher)]
    return {f"{one.py_func.__module__}.{one.__name__} {types}" for one in kernels for types in one.signatures}

config = small_config(sys.argv[1], f"method.name={sys.argv[2]}", "rounds=2", "partition.clients=3")
federation = Federation(config, SerialExecutor(config))
before = compiled()
while not federation.done:
    federation.run_round()
print(*sorted(compiled() - before), sep="\\n")
"""


@pytest.mark.parametrize("method", ["deltamask-plus", "klms", "eden"])
def test_no_kernel_is_compiled_within_a_round(tmp_path, method):
    shown = subprocess.run([sys.executable, "-c", _COUNT, str(tmp_path), method], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.split() == []
