"""Kernels are compiled before the first round, so that no round's time holds a compilation."""

import subprocess
import sys

_COUNT = """
import gc, os, sys
from numba.core.dispatcher import Dispatcher
from fedsim.testing import small_config
from fedsim.engine import Federation, SerialExecutor

def compiled():
    kernels = [one for one in gc.get_objects() if isinstance(one, Dispatcher)]
    return {f"{one.py_func.__module__}.{one.__name__} {types}" for one in kernels for types in one.signatures}

def run(method):
    config = small_config(sys.argv[1], f"method.name={method}", "rounds=2", "partition.clients=3")
    federation = Federation(config, SerialExecutor(config))
    before = compiled()
    while not federation.done:
        federation.run_round()
    return sorted(compiled() - before)

for method in sys.argv[2:]:
    if os.fork() == 0:  # what one method compiles, another would not
        print(method, *run(method), flush=True)
        os._exit(0)
    os.wait()
"""


def test_no_kernel_is_compiled_within_a_round(tmp_path):
    methods = ["deltamask-plus", "klms", "eden"]
    shown = subprocess.run([sys.executable, "-c", _COUNT, str(tmp_path), *methods], capture_output=True, text=True)
    assert shown.stdout.splitlines() == methods, shown.stderr
