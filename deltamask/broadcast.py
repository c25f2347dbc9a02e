"""The downlink as bytes: the whole state of the global probabilities, or what a round changed it by."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

from deltamask import payload
from deltamask.integers import decode_integers, encode_integers
from deltamask.logits import theta_buckets
from deltamask.payload import PayloadError
from deltamask.posterior import GlobalProbabilities, RoundSums

_TOTAL = struct.Struct("<Q")
_ONE_CLASS = np.zeros(1, np.uint8)


def pack_state(probabilities: GlobalProbabilities, initial: Mapping[str, np.ndarray]) -> bytes:
    """The whole state, for a receiver who knows the one at the start, ``initial``; a few bytes at the start."""
    body = []
    for name, array in probabilities.state().items():
        words = encode_integers(array, initial[name], _ONE_CLASS) if not np.array_equal(array, initial[name]) else b""
        body.append(words)
    return payload.pack(payload.STATE, probabilities.theta_d.size, payload.join(body))


def unpack_state(data: bytes | memoryview, initial: GlobalProbabilities) -> None:
    """Turn global probabilities as they were at the start into those that :func:`pack_state` was given.

    Raises:
        PayloadError: the bytes are no such state.
    """
    body = payload.unpack(bytes(data), payload.STATE, initial.theta_d.size)
    state = initial.state()
    for (name, expected), words in zip(state.items(), payload.split("state", body, len(state)), strict=True):
        if words:
            values_d = decode_integers(name, words, expected, _ONE_CLASS, expected.size)
            state[name] = _narrow(name, values_d, expected.dtype)
    initial.restore(state)


def pack_sums(probabilities: GlobalProbabilities, observed: RoundSums) -> bytes:
    """A round's sums, for a receiver who has the probabilities as they were before it."""
    expected_d, classes_d = probabilities.expected_sums(observed.total), theta_buckets(probabilities.theta_d)
    words = encode_integers(observed.sums_d, expected_d, classes_d)
    return payload.pack(payload.SUMS, observed.sums_d.size, _TOTAL.pack(observed.total) + words)


def unpack_sums(data: bytes, probabilities: GlobalProbabilities) -> RoundSums:
    """The sums of :func:`pack_sums`, to :meth:`~deltamask.GlobalProbabilities.apply` to the same probabilities.

    Raises:
        PayloadError: the bytes are no such sums.
    """
    dimension = probabilities.theta_d.size
    body = payload.unpack(data, payload.SUMS, dimension)
    if len(body) < _TOTAL.size:
        raise PayloadError(f"sums: expected at least {_TOTAL.size} bytes, found {len(body)}")
    total = _TOTAL.unpack_from(body)[0]
    if total >= 2**31:
        raise PayloadError(f"sums: expected a total below 2^31, found {total}")
    expected_d, classes_d = probabilities.expected_sums(total), theta_buckets(probabilities.theta_d)
    sums_d = decode_integers("sums", body[_TOTAL.size :], expected_d, classes_d, dimension)
    return RoundSums(_narrow("sums", sums_d, probabilities.sums_dtype), total)


def _narrow(name: str, values_d: np.ndarray, dtype: np.dtype) -> np.ndarray:
    limits = np.iinfo(dtype)
    if values_d.size and not (limits.min <= values_d.min() and values_d.max() <= limits.max):
        raise PayloadError(f"{name}: expected {dtype}, found values beyond")
    return values_d.astype(dtype)
