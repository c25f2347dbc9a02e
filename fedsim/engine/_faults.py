"""Faults of clients in words: what failed and where, without the simulator's own stack."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import deltamask as dm
from fedsim.errors import ResourceError

_OWN = str(Path(__file__).parents[1])
#: Code that is not the user's: this project, libraries and Python itself.
_OTHERS = (
    _OWN,
    str(Path(dm.__file__).parent),
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
)


def describe(error: Exception) -> str:
    """The error in a line, with the last line of the user's own code, if any, and below it the calls that led there.

    They begin with the first one outside this package.
    """
    frames = traceback.extract_tb(error.__traceback__)
    foreign = next(
        (index for index, frame in enumerate(frames) if not frame.filename.startswith(_OWN)), len(frames) - 1
    )
    calls = "".join(traceback.format_list(frames[foreign:]))
    own = [frame for frame in frames if not frame.filename.startswith(_OTHERS)]
    place = f" ({own[-1].filename}:{own[-1].lineno}, in {own[-1].name})" if own else ""
    first, _, more = f"{type(error).__name__}: {error}".partition("\n")
    return "\n".join(part for part in (first + place, more, calls.rstrip()) if part)


@contextmanager
def out_of_memory(what: str) -> Iterator[None]:
    """Turn an end of memory into an error that names the keys which lower the need.

    Raises:
        ResourceError: the memory of the GPU or of the machine ran out.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).partition(". ")[0]
        raise ResourceError(
            f"cluster.gpus_per_worker: the GPU's memory ran out under {what} ({reason}); a larger share means fewer "
            "workers on a GPU; train.batch_size, model.masked_blocks, cluster.gpu_features_gb and train.precision=bf16 "
            "lower the need of each"
        ) from error
    except MemoryError as error:
        raise ResourceError(
            f"cluster.workers: the memory ran out under {what} ({error}); fewer workers share it; train.batch_size and "
            "model.masked_blocks lower the need of each"
        ) from error
