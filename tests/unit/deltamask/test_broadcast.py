"""The downlink: integers, states and a round's sums come back to the bit, and in few bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltamask import (
    BetaPosterior,
    CoupledDifference,
    PayloadError,
    RoundSums,
    bernoulli_mask,
    pack_state,
    pack_sums,
    unpack_state,
    unpack_sums,
)
from deltamask.integers import decode_integers, encode_integers

SIZE = 20_000
KINDS = {
    "posterior": lambda: BetaPosterior(SIZE),
    "long posterior": lambda: BetaPosterior(SIZE, reset_every=3, prior=2.0),
    "coupled": lambda: CoupledDifference(SIZE),
    "momentum": lambda: CoupledDifference(SIZE, momentum=0.9, learning_rate=0.5),
    "inexact": lambda: CoupledDifference(SIZE, false_positive_rate=2**-8),
}


@pytest.fixture(params=KINDS)
def make(request):
    return KINDS[request.param]


def observe(probabilities, seed):
    """Four clients whose probabilities moved a little, with weights of 1 to 4."""
    for client in range(4):
        moved = np.random.default_rng((seed, client)).normal(0, 0.02, SIZE).astype(np.float32)
        theta_k = np.clip(probabilities.theta_d + moved, 0, 1).astype(np.float32)
        masks = [bernoulli_mask(theta, 10 * seed + client) for theta in (theta_k, probabilities.theta_d)]
        probabilities.observe(*masks, weight=client + 1)


def test_sums_and_states_lead_to_the_same_probabilities(make):
    server, follower = make(), make()
    for seed in range(4):
        observe(server, seed)
        update = pack_sums(server, server.round_sums)
        server.step()
        follower.apply(unpack_sums(update, follower))
        newcomer = make()
        unpack_state(pack_state(server, make().state()), newcomer)
        for other in (follower, newcomer):
            assert np.array_equal(other.theta_d, server.theta_d)
            assert all(np.array_equal(other.state()[name], array) for name, array in server.state().items())
        assert 8 * len(update) < 4 * SIZE


def test_the_state_of_the_start_is_a_few_bytes(make):
    assert len(pack_state(make(), make().state())) < 40


def test_few_flips_are_few_bytes():
    server = CoupledDifference(SIZE)
    sums = np.zeros(SIZE, np.int32)
    sums[::400] = -1
    share = 1 / 400
    entropy = SIZE * -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
    assert 8 * len(pack_sums(server, RoundSums(sums, 4))) < 1.1 * entropy + 200


def test_corrupt_or_foreign_bytes_raise_the_typed_error(make):
    server = make()
    observe(server, 0)
    update = pack_sums(server, server.round_sums)
    server.step()
    state = pack_state(server, make().state())
    for data in (b"", update[:-1], update[:-4], update + b"0000", state, bytes(len(update))):
        with pytest.raises(PayloadError):
            unpack_sums(data, make())
    for data in (b"", state[:-1], state + b"0000", update, bytes(len(state))):
        with pytest.raises(PayloadError):
            unpack_state(data, make())


integers = st.one_of(st.integers(-3, 3), st.integers(-(2**40), 2**40))


@given(st.lists(integers, max_size=60), st.integers(-5, 5), st.lists(st.integers(0, 255), min_size=60, max_size=60))
def test_integers_round_trip(values, expected, classes):
    values_d, expected_d = np.array(values, np.int64), np.array([expected])
    classes_d = np.array(classes[: len(values)], np.uint8)
    data = encode_integers(values_d, expected_d, classes_d)
    assert np.array_equal(decode_integers("integers", data, expected_d, classes_d, len(values)), values_d)


@pytest.mark.parametrize("size", [64, 65, 1000])
@pytest.mark.parametrize("threads", [1, 3])
def test_long_arrays_are_coded_in_parts(monkeypatch, size, threads):
    monkeypatch.setattr("deltamask.integers._PART", 64)
    monkeypatch.setattr("deltamask.parallel._threads", threads)
    rng = np.random.default_rng(0)
    values_d, classes_d = rng.integers(-3, 4, size), rng.integers(0, 4, size).astype(np.uint8)
    for expected_d in (np.zeros(1, np.int64), rng.integers(-3, 4, size)):
        data = encode_integers(values_d, expected_d, classes_d)
        assert np.array_equal(decode_integers("integers", data, expected_d, classes_d, size), values_d)
        for damaged in (data[:-4], data + b"0000", b""):
            with pytest.raises(PayloadError):
                decode_integers("integers", damaged, expected_d, classes_d, size)


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_some_integers_or_the_typed_error(data):
    try:
        values = decode_integers("integers", data, np.zeros(1, np.int64), np.zeros(1, np.uint8), 50)
    except PayloadError:
        return
    assert values.shape == (50,)
