import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltamask import bernoulli_kl, bernoulli_mask, flipped, kappa_at, select


def test_flipped_are_the_ascending_indices_that_differ():
    assert flipped(np.array([1, 0, 1, 0], bool), np.array([1, 1, 0, 0], bool)).tolist() == [1, 2]


@given(st.integers(0, 2**32), st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_shared_uniforms_flip_a_bit_only_between_the_two_probabilities(key, p, q):
    n = 20_000
    rate = np.mean(bernoulli_mask(np.full(n, p, np.float32), key) != bernoulli_mask(np.full(n, q, np.float32), key))
    assert rate == pytest.approx(abs(p - q), abs=0.02)  # independent uniforms would flip p(1-q) + q(1-p)


@pytest.mark.parametrize(("p", "q", "expected"), [(0.5, 0.5, 0), (1, 0.5, math.log(2)), (0, 0.99, math.log(100))])
def test_kl_has_known_values(p, q, expected):
    assert bernoulli_kl(np.array([p]), np.array([q]))[0] == pytest.approx(expected)


@given(st.floats(0, 1), st.floats(0.01, 0.99))
def test_kl_is_never_negative(p, q):
    assert bernoulli_kl(np.array([p]), np.array([q]))[0] >= -1e-12


@given(st.integers(0, 50), st.floats(0.01, 1), st.integers(0, 1000))
def test_selection_keeps_the_largest_gains(n, kappa, seed):
    rng = np.random.default_rng(seed)
    gains = rng.random(200)
    indices = np.sort(rng.choice(200, n, replace=False)).astype(np.uint64)
    kept = select(indices, gains[indices], kappa)
    assert kept.size == math.ceil(kappa * n)
    assert (np.diff(kept.astype(int)) > 0).all()
    dropped = np.setdiff1d(indices, kept)
    if kept.size and dropped.size:
        assert gains[kept].min() >= gains[dropped].max()


def test_equal_ranks_keep_the_lower_index():
    assert select(np.arange(4, dtype=np.uint64), np.ones(4), 0.5).tolist() == [0, 1]


def test_no_more_are_kept_than_allowed():
    indices, gains = np.arange(4, dtype=np.uint64), np.array([1.0, 4, 2, 3])
    assert select(indices, gains, 1.0, most=2).tolist() == [1, 3]
    assert select(indices, gains, 0.25, most=2).tolist() == [1]


@pytest.mark.parametrize("kappa", [0, -1, 1.1])
def test_kappa_out_of_range_is_refused(kappa):
    with pytest.raises(ValueError, match="kappa"):
        select(np.zeros(0, np.uint64), np.zeros(0), kappa)


def test_cosine_schedule_goes_from_kappa_to_its_final_value():
    values = [kappa_at(t, 11, 0.8, "cosine", 0.2) for t in range(1, 12)]
    assert values[0] == pytest.approx(0.8)
    assert values[5] == pytest.approx(0.5)
    assert values[-1] == pytest.approx(0.2)
    assert values == sorted(values, reverse=True)
    assert kappa_at(7, 11, 0.8) == 0.8
    assert kappa_at(1, 1, 0.8, "cosine", 0.2) == pytest.approx(0.8)
