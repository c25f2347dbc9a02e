import copy

import numpy as np
import pytest
import torch
from torch import nn

from deltamask import FlatNetwork, MaskedModule, bernoulli_mask, select_parameters


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.MultiheadAttention(8, 2), nn.Linear(8, 3))


@pytest.fixture
def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def test_selection_takes_weight_matrices_also_of_attention(network):
    assert select_parameters(network) == ["0.weight", "2.in_proj_weight", "2.out_proj.weight", "3.weight"]
    assert select_parameters(network, ["2"]) == ["2.in_proj_weight", "2.out_proj.weight"]
    assert "1.bias" in select_parameters(network, biases=True)
    with pytest.raises(ValueError, match="'1'"):
        select_parameters(network, ["1"])


def test_a_prefix_is_a_module_not_a_string():
    deep = nn.Sequential(*[nn.Linear(2, 2) for _ in range(12)])
    assert select_parameters(deep, ["1"]) == ["1.weight"]


def test_forward_multiplies_exactly_the_chosen_weights(mlp):
    net = MaskedModule(mlp, ["0.weight"])
    x, mask = torch.randn(5, 4), torch.rand(32)
    expected = nn.functional.linear(x, mlp[0].weight * mask.view(8, 4), mlp[0].bias)
    expected = mlp[2](torch.relu(expected))
    torch.testing.assert_close(net(x, mask), expected)
    torch.testing.assert_close(net(x, torch.ones(32)), mlp(x))
    torch.testing.assert_close(net(x), mlp(x))


def test_sampled_masks_follow_theta_and_their_stream(mlp):
    net = MaskedModule(mlp, select_parameters(mlp))
    theta = np.random.default_rng(0).uniform(0.05, 0.95, net.size).astype(np.float32)
    net.load_theta(theta)
    np.testing.assert_allclose(net.theta().numpy(), theta, atol=1e-6)
    x = torch.randn(6, 4)
    assert torch.equal(net(x, key=5), net(x, bernoulli_mask(net.theta(), 5).float()))
    assert not torch.equal(net(x, key=5), net(x, key=6))


def test_gradient_goes_straight_through_the_sampling(mlp):
    net = MaskedModule(mlp, select_parameters(mlp))
    net.load_theta(torch.full((net.size,), 0.7))
    x, y = torch.randn(6, 4), torch.randint(0, 3, (6,))
    nn.functional.cross_entropy(net(x, key=1), y).backward()
    mask = bernoulli_mask(net.theta(), 1).float().requires_grad_(True)
    nn.functional.cross_entropy(net(x, mask), y).backward()
    torch.testing.assert_close(net.scores_d.grad, mask.grad * 0.7 * 0.3)  # dL/dm * sigmoid'(s)
    assert all(p.grad is None for p in mlp.parameters())


def test_training_lowers_the_loss_without_touching_the_weights():
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(4, 128), nn.ReLU(), nn.Linear(128, 2))
    before = [p.clone() for p in mlp.parameters()]
    net = MaskedModule(mlp, select_parameters(mlp))
    net.load_theta(torch.full((net.size,), 0.9))
    x = torch.randn(128, 4)
    y = (x[:, 0] > 0).long()
    optimizer = torch.optim.Adam([net.scores_d], lr=0.1)
    losses = []
    for step in range(60):
        loss = nn.functional.cross_entropy(net(x, key=step), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])
    assert all(torch.equal(a, b) for a, b in zip(before, mlp.parameters(), strict=True))


@pytest.mark.parametrize("theta", [0.0, 1.0, float("nan")])
def test_probabilities_without_a_finite_score_are_refused(mlp, theta):
    net = MaskedModule(mlp, select_parameters(mlp))
    with pytest.raises(ValueError, match="theta_d"):
        net.load_theta(torch.full((net.size,), theta))


@pytest.mark.parametrize("names", [[], ["nope"], ["0.weight", "2.weight"]])
def test_unknown_names_and_mixed_types_are_refused(mlp, names):
    mlp[2].half()
    with pytest.raises(ValueError, match="names"):
        MaskedModule(mlp, names)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(11, 4), nn.Linear(4, 2)

    def forward(self, input_ids, attention_mask, scale=1.0):
        pooled = (self.embed(input_ids) * attention_mask[..., None]).sum(1)
        return scale * self.out(pooled)


def test_a_network_gets_several_and_named_inputs():
    torch.manual_seed(0)
    network = Attention()
    net, flat = (kind(network, select_parameters(network)) for kind in (MaskedModule, FlatNetwork))
    ids, attention, mask_d = torch.randint(0, 11, (3, 5)), torch.rand(3, 5), torch.rand(net.size)
    expected = flat(ids, attention, net.weights_d * mask_d)
    for found in (
        net(ids, attention, mask_d),
        net(ids, attention, mask_d=mask_d),
        net(ids, attention_mask=attention, mask_d=mask_d),
        net(input_ids=ids, attention_mask=attention, mask_d=mask_d),
        flat(input_ids=ids, attention_mask=attention, weights_d=net.weights_d * mask_d),
        net(ids, attention, 2.0, mask_d=mask_d) / 2,
    ):
        torch.testing.assert_close(found, expected)
    drawn = net(ids, attention, bernoulli_mask(net.theta(), 3).float())
    assert torch.equal(net(ids, attention, key=3), drawn)
    assert torch.equal(net(input_ids=ids, attention_mask=attention, key=3), drawn)
    assert torch.equal(net(input_ids=ids, attention_mask=attention), network(ids, attention))
    with pytest.raises(ValueError, match="mask_d: expected a tensor of shape"):
        net(ids, attention)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_16_bits_are_masked_as_they_are_and_trained_in_float32(mlp, dtype):
    full = MaskedModule(mlp, select_parameters(mlp))
    half = MaskedModule(copy.deepcopy(mlp).to(dtype), full.names)
    assert half.weights_d.dtype == dtype
    assert half.scores_d.dtype == half.theta().dtype == torch.float32
    drawn = half.drawn(5)
    assert drawn.dtype == dtype
    assert torch.equal(drawn, half.weights_d * bernoulli_mask(half.theta(), 5))
    assert half(torch.ones(1, 4, dtype=dtype), half.theta()).dtype == dtype
    gradients = []
    for net, kind in ((full, torch.float32), (half, dtype)):
        net(torch.linspace(-1, 1, 24).view(6, 4).to(kind), key=5).float().square().sum().backward()
        gradients.append(net.scores_d.grad)
    assert gradients[1].dtype == torch.float32
    torch.testing.assert_close(*gradients, rtol=0.1, atol=0.02)


def test_the_statistics_of_a_frozen_network_stay_in_training():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.Dropout(0.5))
    masked = MaskedModule(network, select_parameters(network))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    masked.train()
    masked(torch.randn(8, 3, 5, 5), key=0).sum().backward()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert network[2].training
    assert masked.train() is masked
