import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltamask import BetaPosterior

masks = st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=8)


@given(masks, st.floats(1, 10))
def test_theta_is_the_clipped_mode_of_the_beta_posterior(rows, prior):
    posterior = BetaPosterior(3, prior=prior, clip=0.01)
    for row in rows:
        posterior.observe(np.array(row))
    posterior.step()
    alpha = prior + np.sum(rows, axis=0)
    beta = prior + len(rows) - np.sum(rows, axis=0)
    expected = np.clip((alpha - 1) / (alpha + beta - 2), 0.01, 0.99)
    np.testing.assert_allclose(posterior.theta_d, expected, rtol=1e-6)
    assert posterior.theta_d.dtype == np.float32


@given(masks, st.randoms())
def test_order_of_observation_does_not_matter(rows, random):
    first, second = BetaPosterior(3), BetaPosterior(3)
    shuffled = random.sample(rows, len(rows))
    for posterior, order in ((first, rows), (second, shuffled)):
        for row in order:
            posterior.observe(np.array(row))
        posterior.step()
    assert np.array_equal(first.theta_d, second.theta_d)


def test_counts_return_to_the_prior_every_reset():
    posterior = BetaPosterior(1, reset_every=2)
    for bit, expected in ((True, 0.99), (False, 0.5), (False, 0.01)):  # the third round forgets the first two
        posterior.observe(np.array([bit]))
        posterior.step()
        assert posterior.theta_d[0] == pytest.approx(expected)


def test_theta_stays_when_nothing_was_observed():
    posterior = BetaPosterior(2, theta_init=0.85)
    posterior.step()
    assert posterior.theta_d.tolist() == [np.float32(0.85)] * 2


def test_bound_share_counts_polarised_probabilities():
    posterior = BetaPosterior(4)
    assert posterior.bound_share() == 0
    for row in ([1, 1, 0, 0], [1, 0, 0, 1]):
        posterior.observe(np.array(row, bool))
    posterior.step()
    assert posterior.bound_share() == 0.5


def test_restore_gives_the_same_future():
    first, second = BetaPosterior(3, reset_every=3), BetaPosterior(3, reset_every=3)
    for step in range(5):
        first.observe(np.array([step % 2 == 0, True, False]))
        first.step()
        if step == 1:
            second.restore({name: array.copy() for name, array in first.state().items()})
        elif step > 1:
            second.observe(np.array([step % 2 == 0, True, False]))
            second.step()
    assert all(np.array_equal(first.state()[name], second.state()[name]) for name in first.state())


@pytest.mark.parametrize(
    ("field", "value"), [("dimension", 0), ("theta_init", 1.0), ("prior", 0.5), ("clip", 0.5), ("reset_every", 0)]
)
def test_arguments_out_of_range_are_named(field, value):
    with pytest.raises(ValueError, match=field):
        BetaPosterior(**{"dimension": 3, field: value})


def test_masks_of_another_form_are_refused():
    with pytest.raises(ValueError, match="mask_d"):
        BetaPosterior(3).observe(np.ones(3))
