import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deltamask
from deltamask import PayloadError, payload

THETA_G = np.full(20_000, 0.95, np.float32)
THETA_K = np.clip(THETA_G + np.random.default_rng(0).normal(0, 0.03, THETA_G.size), 0, 1).astype(np.float32)
UPDATE = deltamask.encode(THETA_K, THETA_G, key=7)


@given(st.integers(0, 255), st.integers(0, 2**32 - 1), st.binary(max_size=100))
def test_frames_round_trip_in_twelve_bytes(kind, dimension, body):
    data = payload.pack(kind, dimension, body)
    assert len(data) == len(body) + payload.HEADER_BYTES == len(body) + 12
    assert payload.unpack(data, kind, dimension) == body


@given(st.binary(max_size=50), st.data())
def test_any_changed_byte_is_noticed(body, data):
    frame = bytearray(payload.pack(3, 1000, body))
    position = data.draw(st.integers(0, len(frame) - 1))
    frame[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PayloadError):
        payload.unpack(bytes(frame), 3, 1000)


@given(st.binary(min_size=1, max_size=50), st.data())
def test_truncated_frames_are_noticed(body, data):
    frame = payload.pack(3, 1000, body)
    with pytest.raises(PayloadError):
        payload.unpack(frame[: data.draw(st.integers(0, len(frame) - 1))], 3, 1000)


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_no_frame(data):
    with pytest.raises(PayloadError):
        payload.unpack(data, 0, 0)


def test_messages_say_what_was_expected_and_found():
    frame = payload.pack(1, 10, b"")
    with pytest.raises(PayloadError, match="kind: expected fuse16, found fuse8"):
        payload.unpack(frame, 2, 10)
    with pytest.raises(PayloadError, match="dimension: expected 11, found 10"):
        payload.unpack(frame, 1, 11)
    with pytest.raises(ValueError, match="dimension"):
        payload.pack(1, 2**32, b"")
    with pytest.raises(ValueError, match="kind"):
        payload.pack(256, 1, b"")


# Updates


@pytest.mark.parametrize("codec", deltamask.codecs.CODECS)
def test_the_server_rebuilds_the_clients_mask(codec):
    update = deltamask.encode(THETA_K, THETA_G, key=7, codec=codec)
    decoded = deltamask.decode(update.payload, THETA_G, key=7, codec=codec)
    reference = deltamask.bernoulli_mask(THETA_G, 7)
    mask = deltamask.bernoulli_mask(THETA_K, 7)
    wrong = np.count_nonzero(decoded.mask_d != mask)
    assert np.array_equal(decoded.reference_d, reference)
    assert wrong == len(decoded.flips) - update.sent_size  # only the codec's false positives
    assert update.sent_size == update.delta_size == np.count_nonzero(mask != reference)
    assert np.array_equal(np.flatnonzero(decoded.mask_d != reference), decoded.flips)


def test_kappa_sends_a_share_of_the_delta():
    update = deltamask.encode(THETA_K, THETA_G, key=7, kappa=0.25)
    assert update.sent_size == -(-update.delta_size // 4)
    assert len(update.payload) < len(UPDATE.payload)


def test_nothing_changed_sends_the_frame_alone():
    update = deltamask.encode(THETA_G, THETA_G, key=7)
    assert update.delta_size == 0
    assert len(update.payload) == payload.HEADER_BYTES
    decoded = deltamask.decode(update.payload, THETA_G, key=7)
    assert np.array_equal(decoded.mask_d, decoded.reference_d)


@given(st.data())
def test_damaged_updates_raise_the_typed_error(data):
    damaged = bytearray(UPDATE.payload)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    damaged = damaged[: data.draw(st.integers(0, len(damaged)))]
    with pytest.raises(PayloadError):
        deltamask.decode(bytes(damaged), THETA_G, key=7)


def test_other_codecs_and_dimensions_are_refused():
    with pytest.raises(PayloadError, match="kind"):
        deltamask.decode(UPDATE.payload, THETA_G, key=7, codec="fuse8")
    with pytest.raises(PayloadError, match="dimension"):
        deltamask.decode(UPDATE.payload, THETA_G[:-1], key=7)
    with pytest.raises(ValueError, match="shape"):
        deltamask.encode(THETA_K[:-1], THETA_G, key=7)
    for value in (np.nan, -0.1, 1.1):
        with pytest.raises(ValueError, match="theta_k_d: expected probabilities"):
            deltamask.encode(np.full_like(THETA_G, value), THETA_G, key=7)
    with pytest.raises(ValueError, match="codec"):
        deltamask.encode(THETA_K, THETA_G, key=7, codec="zip")


def test_selection_by_gain_per_bit_spends_fewer_bytes_on_nearly_the_same_gain():
    rng = np.random.default_rng(0)
    theta_g = rng.choice(np.array([0.1, 0.6, 0.95], np.float32), 300_000)
    scores = np.log(theta_g / (1 - theta_g)) + rng.normal(0, 0.5, theta_g.size) * rng.random(theta_g.size)
    theta_k = (1 / (1 + np.exp(-scores))).astype(np.float32)
    kl = deltamask.bernoulli_kl(theta_k, theta_g)
    sizes, gains, counts = {}, {}, set()
    for selection in ("kl", "gain-per-bit", "random"):
        update = deltamask.encode(theta_k, theta_g, key=3, kappa=0.4, codec="range", selection=selection)
        decoded = deltamask.decode(update.payload, theta_g, key=3, codec="range")
        sizes[selection], gains[selection] = len(update.payload), kl[decoded.flips].sum()
        counts.add(update.sent_size)
    assert len(counts) == 1
    assert sizes["gain-per-bit"] < 0.97 * sizes["kl"]
    assert gains["kl"] > gains["gain-per-bit"] > 0.9 * gains["kl"] > 1.5 * gains["random"]


def test_a_mask_with_uniforms_of_its_own_differs_wherever_theta_is_not_sure():
    update = deltamask.encode(THETA_G, THETA_G, key=7, mask_key=8)
    assert update.delta_size == pytest.approx(2 * 0.95 * 0.05 * THETA_G.size, rel=0.1)
    decoded = deltamask.decode(update.payload, THETA_G, key=7)
    own = deltamask.bernoulli_mask(THETA_G, 8)
    assert np.mean(decoded.mask_d != own) < 0.01  # but for false flips


@pytest.mark.parametrize("codec", list(deltamask.codecs.CODECS))
def test_a_payload_of_another_round_is_refused(codec):
    theta_g_d = np.full(5000, 0.9, np.float32)
    theta_k_d = theta_g_d - np.linspace(0, 0.2, 5000, dtype=np.float32)
    update = deltamask.encode(theta_k_d, theta_g_d, 7, codec=codec)
    assert deltamask.decode(update.payload, theta_g_d, 7, codec=codec).flips.size >= update.sent_size
    other_d = theta_g_d.copy()
    other_d[17] += np.float32(1e-7)
    for theta, key in ((other_d, 7), (theta_g_d, 8)):
        with pytest.raises(deltamask.PayloadError, match="made with other probabilities or another stream"):
            deltamask.decode(update.payload, theta, key, codec=codec)


def test_errors_name_codecs():
    theta_d = np.full(100, 0.9, np.float32)
    data = deltamask.encode(theta_d, theta_d, 0, codec="range").payload
    with pytest.raises(deltamask.PayloadError, match=r"frame kind: expected fuse8\+png, found range"):
        deltamask.decode(data, theta_d, 0)
    with pytest.raises(ValueError, match="selection: found 'nope', allowed: kl, gain-per-bit, random"):
        deltamask.encode(theta_d, theta_d, 0, selection="nope")
