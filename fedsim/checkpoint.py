"""What survives a crash: the server's state after the last finished round, as safetensors (never pickle)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedsim.errors import CheckpointError
from results import RunStore

_NAME = "checkpoint.safetensors"


def save_checkpoint(store: RunStore, state: Mapping[str, np.ndarray]) -> None:
    """Replace the run's checkpoint, atomically."""
    store.write_bytes(_NAME, save({name: np.ascontiguousarray(array) for name, array in state.items()}))


def load_checkpoint(store: RunStore, expected: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """The run's checkpoint, or None when there is none.

    Args:
        store: the run.
        expected: a state of the same experiment, for names, shapes and types.

    Raises:
        CheckpointError: the file is corrupt or of another experiment.
    """
    data = store.read_bytes(_NAME)
    if data is None:
        return None
    try:
        state = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{store.location}/{_NAME}: expected safetensors, found {error}") from error
    form, wanted = ({name: (a.shape, str(a.dtype)) for name, a in s.items()} for s in (state, expected))
    for name in sorted(form.keys() | wanted.keys()):
        if form.get(name) != wanted.get(name):
            raise CheckpointError(
                f"{store.location}/{_NAME}: expected {name} {wanted.get(name)}, found {form.get(name)}"
            )
    return state
