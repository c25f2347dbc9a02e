"""KLMS: masks by the numbers of shared samples."""

import numba
import numpy as np
import pytest

from deltamask import PayloadError, payload, uniform_bits
from deltamask.payload import HEADER_BYTES
from fedsim.engine import Federation
from fedsim.methods.klms import decode_mask, encode_mask
from fedsim.testing import run_rounds

RNG = np.random.default_rng(0)
THETA_G = RNG.uniform(0.05, 0.95, 1003).astype(np.float32)
THETA_K = np.clip(THETA_G + RNG.normal(0, 0.1, THETA_G.size), 0.01, 0.99).astype(np.float32)


def naive(theta_k: np.ndarray, theta_g: np.ndarray, key: int, own_key: int, block: int, bits: int) -> np.ndarray:
    """Importance sampling as in the paper, with products of probabilities, block by block."""
    count = 2**bits
    uniforms = uniform_bits(key, theta_g.size * count).reshape(theta_g.size, count) / 2.0**32
    choices = uniform_bits(own_key, -(-theta_g.size // block)) / 2.0**32
    mask = np.empty(theta_g.size, np.bool_)
    for number, start in enumerate(range(0, theta_g.size, block)):
        part = slice(start, start + block)
        p_k, p_g = (theta[part, None].astype(np.float64) for theta in (theta_k, theta_g))
        samples = uniforms[part] < p_g
        weights = np.prod(np.where(samples, p_k, 1 - p_k) / np.where(samples, p_g, 1 - p_g), axis=0)
        chosen = np.flatnonzero(np.cumsum(weights) / weights.sum() > choices[number])[0]
        mask[part] = samples[:, chosen]
    return mask


@pytest.mark.parametrize(("block", "bits"), [(1, 1), (7, 3), (64, 6), (2000, 9)])
def test_a_mask_is_the_sample_that_the_importance_weights_select(block, bits):
    message = encode_mask(THETA_K, THETA_G, 3, 4, block, bits)
    assert np.array_equal(decode_mask(message, THETA_G, 3, block, bits), naive(THETA_K, THETA_G, 3, 4, block, bits))


@pytest.mark.parametrize(("block", "bits"), [(1, 1), (7, 3), (64, 6), (2000, 16)])
def test_a_message_has_so_many_bits_a_block(block, bits):
    blocks = -(-THETA_G.size // block)
    message = encode_mask(THETA_K, THETA_G, 0, 1, block, bits)
    assert len(message) == HEADER_BYTES + -(-blocks * bits // 8)
    context = payload.context(0, THETA_G)
    body = bytes(payload.unpack(message, payload.SELECTED, THETA_G.size, context))
    for wrong in (body[:-1], body + b"\0"):
        with pytest.raises(PayloadError, match="klms body: expected"):
            decode_mask(payload.pack(payload.SELECTED, THETA_G.size, wrong, context), THETA_G, 0, block, bits)


def test_masks_become_the_clients_as_bits_exceed_the_relative_entropy():
    # Blocks of four bits that the client wants otherwise, 2.5 bits of relative entropy.
    theta_g, theta_k = np.full(80_000, 0.5, np.float32), np.tile(np.float32([0.95, 0.05, 0.9, 0.1]), 20_000)
    errors = []
    for bits in (1, 2, 4, 10):
        mask = decode_mask(encode_mask(theta_k, theta_g, 1, 2, 4, bits), theta_g, 1, 4, bits)
        means = mask.reshape(-1, 4).mean(0)
        errors.append(np.abs(means - theta_k[:4]).max())
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.2
    assert errors[-1] < 4 * np.sqrt(0.25 / 20_000)
    # What a client leaves alone stays as likely as it was, at any rate.
    unmoved = decode_mask(encode_mask(theta_g, theta_g, 1, 2, 4, 1), theta_g, 1, 4, 1)
    assert unmoved.mean() == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / 80_000))


def test_certain_probabilities_of_a_client_are_obeyed():
    theta_g, wanted = np.full(3000, 0.5, np.float32), np.arange(3000) % 2 == 0
    message = encode_mask(wanted.astype(np.float32), theta_g, 0, 1, 4, 10)
    assert (decode_mask(message, theta_g, 0, 4, 10) == wanted).mean() > 0.99


def test_messages_do_not_depend_on_threads():
    threads = numba.get_num_threads()
    messages = []
    for count in {1, threads}:
        numba.set_num_threads(count)
        messages.append(encode_mask(THETA_K, THETA_G, 0, 1, 16, 5))
    numba.set_num_threads(threads)
    assert len(set(messages)) == 1


def test_the_server_averages_the_masks_that_clients_selected(small_config):
    config = small_config("method.name=klms", "rounds=1", "partition.clients=3", "method.bits=4", "method.block=50")
    executor, federation, _ = run_rounds(config)
    fresh = Federation(config, executor).servers["method"]  # whose theta is what clients had
    masks = [fresh.decode(1, client, executor.uploads[1, client]) for client in range(3)]
    assert all(0.9 < mask.mean() < 0.99 for mask in masks)
    expected = np.clip(np.mean(masks, axis=0), 0.01, 0.99).astype(np.float32)
    assert np.array_equal(federation.servers["method"]._probabilities.theta_d, expected)
