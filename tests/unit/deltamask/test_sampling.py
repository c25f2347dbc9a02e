import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deltamask import bernoulli_mask, stream_key
from deltamask.sampling import uniform_bits, uniform_bits_numpy, uniform_bits_torch

keys = st.integers(0, 2**64 - 1)
devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@given(keys, st.integers(0, 3000))
def test_numpy_numba_and_torch_give_the_same_bits(key, dimension):
    expected = uniform_bits_numpy(key, dimension)
    assert np.array_equal(uniform_bits(key, dimension), expected)
    for device in devices:
        assert np.array_equal(uniform_bits_torch(key, dimension, device).cpu().numpy(), expected)


def test_bits_are_those_of_splitmix64():
    # First outputs of the reference implementation seeded with 1234567.
    outputs = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert uniform_bits(1234567, 4).tolist() == [value >> 32 for value in outputs]


@given(keys, st.integers(0, 1000), st.integers(1, 100))
def test_torch_computes_any_part_of_the_sequence(key, start, length):
    whole = uniform_bits_numpy(key, start + length)
    assert np.array_equal(uniform_bits_torch(key, length, start=start).numpy(), whole[start:])


@given(keys, st.lists(st.floats(0, 1, width=32), min_size=1, max_size=200))
def test_masks_agree_between_numpy_and_torch_and_with_exact_thresholds(key, thetas):
    theta_d = np.array(thetas, np.float32)
    mask_d = bernoulli_mask(theta_d, key)
    bits = uniform_bits_numpy(key, len(thetas))
    exact = [int(b) < int(float(theta) * 2**32) for b, theta in zip(bits, theta_d, strict=True)]
    assert mask_d.tolist() == exact
    for device in devices:
        assert bernoulli_mask(torch.from_numpy(theta_d).to(device), key).cpu().tolist() == exact


def test_masks_have_the_asked_share_and_bounds():
    key = stream_key(0, "share")
    assert abs(bernoulli_mask(np.full(1_000_000, 0.3, np.float32), key).mean() - 0.3) < 0.002
    assert bernoulli_mask(np.ones(10_000, np.float32), key).all()
    assert not bernoulli_mask(np.zeros(10_000, np.float32), key).any()


def test_streams_are_uncorrelated():
    first, second = (uniform_bits(stream_key(0, "client", k), 100_000).astype(float) for k in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02


@given(
    st.lists(st.one_of(st.integers(), st.text()), max_size=4), st.lists(st.one_of(st.integers(), st.text()), max_size=4)
)
def test_keys_differ_when_their_parts_differ(first, second):
    assert 0 <= stream_key(*first) < 2**64
    if not any("\0" in part for part in first + second if isinstance(part, str)):
        assert (stream_key(*first) == stream_key(*second)) == (first == second)


@pytest.mark.parametrize("part", [1.5, True, None])
def test_other_key_parts_are_refused(part):
    with pytest.raises(TypeError, match="int or str"):
        stream_key(part)


@pytest.mark.parametrize("theta", [np.ones(3), np.ones((2, 2), np.float32), torch.ones(3, dtype=torch.float64)])
def test_other_thetas_are_refused(theta):
    with pytest.raises(TypeError, match="theta_d"):
        bernoulli_mask(theta, 0)
