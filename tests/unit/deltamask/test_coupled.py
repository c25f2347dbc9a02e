"""Coupled-difference aggregation is unbiased, also over inexact codecs."""

import numpy as np
import pytest

from deltamask import CoupledDifference, bernoulli_mask


def one_round(rate: float, clients: int = 200, corrected: bool = True):
    """theta before, the clients' mean theta, and theta after a round whose messages have false flips at ``rate``."""
    rng = np.random.default_rng(0)
    server = CoupledDifference(20_000, theta_init=0.5, false_positive_rate=rate if corrected else 0.0)
    server.start(rng.uniform(0.1, 0.9, 20_000).astype(np.float32))
    before = server.theta_d.copy()
    theta_k = np.clip(before + rng.normal(0, 0.03, before.size), 0.02, 0.98).astype(np.float32)
    for client in range(clients):
        mask, reference = bernoulli_mask(theta_k, client), bernoulli_mask(before, client)
        false = (mask == reference) & (rng.random(mask.size) < rate)
        server.observe(mask ^ false, reference)
    server.step()
    return before, theta_k, server.theta_d


@pytest.mark.parametrize("rate", [0.0, 0.05])
def test_the_step_is_the_clients_mean_change(rate):
    before, theta_k, after = one_round(rate)
    step, change = (after - before).astype(np.float64), (theta_k - before).astype(np.float64)
    assert np.polyfit(change, step, 1) == pytest.approx([1, 0], abs=0.02)
    # The error is also independent of theta, and as small as shared uniforms make it.
    assert np.polyfit(before, step - change, 1) == pytest.approx([0, 0], abs=0.002)
    if rate == 0:
        assert np.var(step - change) < 1.1 * np.mean(np.abs(change)) / 200
        assert np.var(step - change) < 0.15 * np.mean(before * (1 - before)) / 200


def test_without_the_correction_false_flips_pull_theta_to_a_half():
    before, theta_k, after = one_round(0.05, corrected=False)
    slope, _ = np.polyfit(before, after - theta_k, 1)
    assert slope == pytest.approx(-2 * 0.05, abs=0.01)


def test_theta_stays_within_its_bounds_and_survives_a_restart():
    server = CoupledDifference(4, theta_init=0.95, clip=0.02)
    zeros, ones = np.zeros(4, bool), np.ones(4, bool)
    server.observe(zeros, ones)
    server.step()
    assert np.array_equal(server.theta_d, np.full(4, 0.02, np.float32))
    assert server.bound_share() == 1
    other = CoupledDifference(4, clip=0.02)
    other.restore({name: array.copy() for name, array in server.state().items()})
    assert np.array_equal(other.theta_d, server.theta_d)
    server.step()  # a round without clients changes nothing
    assert np.array_equal(other.theta_d, server.theta_d)


def test_the_largest_steps_and_the_smallest_distance_from_the_bounds_overflow_nothing():
    server = CoupledDifference(2, theta_init=0.5, clip=1e-6, learning_rate=10.0, momentum=0.99)
    up, down = np.array([True, False]), np.array([False, True])
    for expected in (1, 0):
        for _ in range(2000):
            server.observe(*((up, down) if expected else (down, up)))
            server.step()
        assert abs(server.theta_d - [expected, 1 - expected]).max() < 2e-6
        assert np.isfinite(np.log(server.theta_d) - np.log1p(-server.theta_d)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"theta_init": 1.0}, "theta_init: found 1.0, allowed: from clip to 1 - clip"),
        ({"clip": 0.6, "theta_init": 0.5}, "theta_init|clip"),
        ({"clip": 1e-8}, "clip: found 1e-08, allowed: from 1e-6"),
        ({"false_positive_rate": 1.0}, "false_positive_rate: found 1.0"),
        (
            {"learning_rate": 200.0, "momentum": 0.9},
            r"learning_rate: found 200.0, allowed: above 0, to 100 at momentum 0.9",
        ),
    ],
)
def test_arguments_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        CoupledDifference(3, **arguments)


def test_masks_of_another_shape_or_type_are_refused():
    with pytest.raises(ValueError, match=r"reference_d: expected bool \(3,\), found"):
        CoupledDifference(3).observe(np.zeros(3, bool), np.zeros(4, bool))
