import numpy as np
import pytest
import torch

from deltamask.fused import masked_weights, score_gradient
from deltamask.sampling import bernoulli_mask
from deltamask.update import decode, encode

devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
D = 100_003


def _arrays(device):
    rng = np.random.default_rng(0)
    theta_d = rng.uniform(0, 1, D).astype(np.float32)
    weights_d, grad_d = rng.standard_normal((2, D)).astype(np.float32)
    return (torch.from_numpy(a).to(device) for a in (theta_d, weights_d, grad_d))


@pytest.mark.parametrize("key", [0, 1, 2**31, 2**64 - 1, 0x9E3779B97F4A7C15])
@pytest.mark.parametrize("device", devices)
def test_weights_are_masked_by_the_bits_that_the_key_draws(device, key):
    theta_d, weights_d, _ = _arrays(device)
    mask_d = bernoulli_mask(theta_d.cpu().numpy(), key)
    found = masked_weights(theta_d, weights_d, key).cpu().numpy()
    assert np.array_equal(found, weights_d.cpu().numpy() * mask_d)


@pytest.mark.parametrize("device", devices)
def test_gradients_go_to_scores_as_if_the_mask_were_theta(device):
    theta_d, weights_d, grad_d = _arrays(device)
    found = score_gradient(grad_d, weights_d, theta_d)
    torch.testing.assert_close(found, grad_d * weights_d * theta_d * (1 - theta_d))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("device", devices)
def test_weights_of_16_bits_are_kept_to_the_bit(device, dtype):
    theta_d, weights_d, grad_d = _arrays(device)
    half_d, grad_d = weights_d.to(dtype), grad_d.to(dtype)
    found = masked_weights(theta_d, half_d, 7)
    assert found.dtype == dtype
    assert torch.equal(found, half_d * bernoulli_mask(theta_d, 7))
    expected = grad_d.double() * half_d.double() * theta_d * (1 - theta_d)
    torch.testing.assert_close(score_gradient(grad_d, half_d, theta_d), expected.float())


@pytest.mark.parametrize("device", devices)
@pytest.mark.parametrize("mask_key", [None, 3])
def test_a_tensor_is_encoded_as_an_array_is(device, mask_key):
    theta_g_d, noise_d, _ = (a.cpu().numpy() for a in _arrays("cpu"))
    theta_g_d = theta_g_d.clip(0.05, 0.95)
    theta_k_d = (theta_g_d + 0.02 * noise_d).astype(np.float32).clip(0, 1)
    expected = encode(theta_k_d, theta_g_d, 1, kappa=0.5, mask_key=mask_key)
    there = torch.from_numpy(theta_g_d).to(device)
    for copy in (None, there):
        found = encode(torch.from_numpy(theta_k_d).to(device), theta_g_d, 1, kappa=0.5, mask_key=mask_key, there=copy)
        assert found == expected
    assert encode(torch.from_numpy(theta_k_d).to(device), there, 1, kappa=0.5, mask_key=mask_key) == expected
    assert encode(theta_k_d, there, 1, kappa=0.5, mask_key=mask_key) == expected
    decoded = [decode(expected.payload, theta_d, 1) for theta_d in (theta_g_d, there)]
    assert np.array_equal(decoded[0].mask_d, decoded[1].mask_d)
