"""The device of a worker: a CPU, or its share of a GPU, with what makes results there repeatable."""

from __future__ import annotations

import ctypes
import os

import torch

from fedsim.config import Config
from fedsim.errors import ResourceError

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h


def open_device(config: Config) -> torch.device:
    """The device to compute on, set up for this process.

    On a GPU, products of float32 are rounded as ``train.precision`` says, algorithms are deterministic where there are
    such ones, and a share of a GPU is also a share of its memory.

    Raises:
        ResourceError: a GPU is asked for, and torch sees none.
    """
    share = config.cluster.gpus_per_worker
    if not share:
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS when it starts
    if not torch.cuda.is_available():
        raise ResourceError("cluster.gpus_per_worker: found above 0, allowed: 0, since this torch sees no CUDA GPU")
    device = torch.device("cuda", torch.cuda.current_device())
    tf32 = config.train is not None and config.train.precision == "tf32"
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32  # torch's own default is True, which is not float32
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if share < 1:
        torch.cuda.set_per_process_memory_fraction(share, device)
    return device


def keep_freed_memory() -> None:
    """Have this process keep what it frees, where its C library can: else each step faults its pages in again."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 * 2**20)  # the largest one that glibc takes
        mallopt(_TRIM_THRESHOLD, 512 * 2**20)
