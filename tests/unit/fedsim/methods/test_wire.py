import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltamask import PayloadError, payload
from fedsim.methods.wire import pack_tensors, unpack_tensors

SHAPES = {"theta": (5,), "weight": (2, 3)}
TENSORS = {name: np.random.default_rng(0).random(shape, np.float32) for name, shape in SHAPES.items()}


def test_round_trip():
    found = unpack_tensors(pack_tensors(TENSORS), SHAPES)
    assert found.keys() == TENSORS.keys()
    assert all(np.array_equal(found[name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize(
    "tensors",
    [
        {"theta": np.zeros(11, np.float32)},
        {"theta": np.zeros(5, np.float32), "other": np.zeros((2, 3), np.float32)},
        {"theta": np.zeros(5), "weight": np.zeros((2, 3))},
        {"theta": np.zeros(6, np.float32), "weight": np.zeros(5, np.float32)},
    ],
)
def test_other_names_shapes_and_types_are_refused(tensors):
    with pytest.raises(PayloadError, match="tensors: expected"):
        unpack_tensors(pack_tensors(tensors), SHAPES)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value):
    with pytest.raises(PayloadError, match="finite"):
        unpack_tensors(pack_tensors(TENSORS | {"theta": np.full(5, value, np.float32)}), SHAPES)


@given(st.binary(max_size=100))
def test_bodies_that_are_not_safetensors_are_refused(body):
    with pytest.raises(PayloadError):
        unpack_tensors(payload.pack(payload.TENSORS, 11, body), SHAPES)
