import numpy as np
import pytest
import torch

from deltamask.fused import masked_weights, score_gradient
from deltamask.sampling import bernoulli_mask

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
