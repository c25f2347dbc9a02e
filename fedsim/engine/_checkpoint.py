"""Checkpoints: the server's state after the last finished round, in a checksummed frame (never pickle)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from deltamask import PayloadError, payload
from fedsim.errors import CheckpointError
from results import RunStore

_NAME = "checkpoint.bin"


def save_checkpoint(store: RunStore, state: Mapping[str, np.ndarray]) -> None:
    """Replace the run's checkpoint, atomically."""
    body = save({**state, **_owner(store)})
    store.write_bytes(_NAME, payload.pack(payload.TENSORS, 0, body))


def load_checkpoint(store: RunStore, expected: Mapping[str, np.ndarray], varying: str) -> dict[str, np.ndarray] | None:
    """The run's checkpoint, or None when there is none.

    Args:
        store: the run.
        expected: a state of the same experiment, for names, shapes and types.
        varying: begins the names that may be there or not.

    Raises:
        CheckpointError: the file is corrupt or of another run.
    """
    data = store.read_bytes(_NAME)
    if data is None:
        return None
    place = f"{store.location}: {_NAME}"
    try:
        state = load(bytes(payload.unpack(data, payload.TENSORS, 0)))
    except (PayloadError, SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{place}: damaged ({error}); --fresh starts the run again") from error
    owner = _owner(store)
    form, wanted = ({name: (a.shape, str(a.dtype)) for name, a in s.items()} for s in (state, {**expected, **owner}))
    for name in sorted(form.keys() | wanted.keys()):
        if not name.startswith(varying) and form.get(name) != wanted.get(name):
            raise CheckpointError(f"{place}: expected {name} {wanted.get(name)}, found {form.get(name)}")
    for name, array in owner.items():
        if not np.array_equal(state.pop(name), array):
            raise CheckpointError(f"{place}: expected a checkpoint of this run, found one of another")
    return state


def _owner(store: RunStore) -> dict[str, np.ndarray]:
    return {"run_id": np.frombuffer(store.run_id.encode(), np.uint8)}
