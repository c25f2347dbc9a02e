"""Checkpoints: the server's state after some round, in a checksummed frame (never pickle), the last two of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from deltamask import PayloadError, payload
from fedsim.errors import CheckpointError
from results import RunStore

_PREFIX, _KEPT = "checkpoint-", 2


def save_checkpoint(store: RunStore, next_round: int, state: Mapping[str, np.ndarray]) -> None:
    """Write the run's newest checkpoint, atomically, and remove all but the one before it."""
    body = save({**state, **_owner(store)})
    store.write_bytes(f"{_PREFIX}{next_round:06d}.{store.token}.bin", payload.pack(payload.TENSORS, 0, body))
    store.remove(checkpoints(store)[_KEPT:])


def checkpoints(store: RunStore) -> list[str]:
    """Names of the run's checkpoints, the newest first."""
    return store.files(_PREFIX)[::-1]


def load_checkpoint(
    store: RunStore, name: str, expected: Mapping[str, np.ndarray], varying: str
) -> dict[str, np.ndarray]:
    """A checkpoint.

    Args:
        store: the run.
        name: one of :func:`checkpoints`.
        expected: a state of the same experiment, for names, shapes and types.
        varying: begins the names that may be there or not.

    Raises:
        CheckpointError: the file is corrupt or of another run.
    """
    place = f"{store.location}: {name}"
    try:
        state = load(bytes(payload.unpack(store.read_bytes(name) or b"", payload.TENSORS, 0)))
    except (PayloadError, SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{place}: damaged ({error})") from error
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
