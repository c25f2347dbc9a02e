"""DP-SGD at a client, against a plain loop over its samples."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import deltamask as dm
import fedsim
from fedsim.engine import make_clients, make_model
from fedsim.engine._phases import make_servers
from fedsim.methods import ClientTask, dp_sgd
from fedsim.methods.dp_sgd import PrivateTraining, sampling
from fedsim.settings import PrivacySettings, TrainSettings

CLIP, SAMPLES = 0.05, 12
#: One step of plain SGD over all samples, so that what is trained moves by minus the mean of clipped gradients.
ONE_STEP = ["train={epochs: 1, batch_size: 12, optimizer: sgd, momentum: 0, lr: 1}", "model={name: mlp, size: 8}"]
METHODS = {
    "deltamask": ["method.name=deltamask"],
    "expected": ["method.name=deltamask-plus", "train.logit_adjustment=null", "method.flip_penalty=0.01"],
    "fedmask": ["method.name=fedmask", "method.score_init=0.50001"],
    "fedavg": ["method.name=fedavg"],
    "lora": ["method.name=lora"],
}


def _halves(config):
    model = make_model(config, 10)
    model.head.weight.data.copy_(torch.randn(model.head.weight.shape, generator=torch.manual_seed(1)))
    client, server = make_clients(config, model)["method"], make_servers(config, model)["method"]
    features = torch.randn(SAMPLES, 64, generator=torch.manual_seed(2))
    return client, client.receive(server.broadcast()), ClientTask(1, 3, features, torch.arange(SAMPLES) % 10)


def _one_by_one(client, state, task, config):
    """The sum of clipped gradients by autograd, a sample at a time, and what is trained before."""
    client.model.load_head(state if isinstance(state, dict) else state.head)
    net, name = client._net, config.method.name
    if name == "fedmask":
        start_d = torch.from_numpy(config.method.scores(state.probabilities))
    else:
        start_d = torch.from_numpy(state["vector"]) if isinstance(state, dict) else torch.logit(client.theta(state))
    total_d = torch.zeros_like(start_d)
    for x, y in zip(task.features, task.labels, strict=True):
        vector_d = start_d.clone().requires_grad_()
        weights_d = vector_d
        if name == "fedmask":
            weights_d = net.weights_d * ((vector_d > 0.5).float() + vector_d - vector_d.detach())
        elif name == "deltamask-plus":
            weights_d = net.weights_d * vector_d.sigmoid()
        elif name == "deltamask":
            mask_d = dm.bernoulli_mask(vector_d.detach().sigmoid(), dm.stream_key(config.seed, "train", 1, 3, 0))
            weights_d = net.weights_d * (mask_d.float() + vector_d.sigmoid() - vector_d.detach().sigmoid())
        output = net.with_weights(x[None], weights_d) if isinstance(net, dm.FlatNetwork) else net(x[None], weights_d)
        [gradient] = torch.autograd.grad(F.cross_entropy(output, y[None]), vector_d)
        total_d += gradient * min(1.0, CLIP / float(gradient.norm()))
    return total_d, start_d


@pytest.mark.parametrize("parts", [1, 5])
@pytest.mark.parametrize("method", METHODS)
def test_a_step_is_the_mean_of_clipped_gradients(method, parts, small_config, monkeypatch):
    config = small_config(*ONE_STEP, *METHODS[method], f"privacy.clip={CLIP}")
    client, state, task = _halves(config)
    total_d, start_d = _one_by_one(client, state, task, config)
    assert SAMPLES * CLIP / 2 > float(total_d.norm()) > 0
    monkeypatch.setattr(dp_sgd, "_HELD", -(-SAMPLES // parts) * start_d.numel())
    moved = client.train(state, task).value
    expected_d = start_d - total_d / SAMPLES
    if method == "expected":  # the penalty is added to it, as it is of no sample
        scores_d = start_d.clone().requires_grad_()
        [gradient] = torch.autograd.grad(client.penalty(state)(scores_d), scores_d)
        expected_d -= gradient
    if method == "fedmask":
        assert 0.1 < moved.mean() < 0.9
        assert np.count_nonzero(moved != (expected_d > 0.5).numpy()) < 5  # scores that rounding leaves at the threshold
    elif method in ("fedavg", "lora"):
        np.testing.assert_allclose(moved, (expected_d - start_d).numpy(), atol=1e-6)
    else:
        np.testing.assert_allclose(moved.numpy(), expected_d.sigmoid().numpy(), atol=1e-6)


@pytest.mark.parametrize("model", ["cnn", "tiny-vit"])
def test_networks_that_are_applied_sample_by_sample(model, small_config):
    keys = ["method.name=fedavg", f"model={{name: {model}, masked_blocks: 1}}", "privacy.clip=1e6"]
    one_step = ["train.optimizer=sgd", "train.momentum=0", "train.batch_size=16", "train.lr=0.1"]
    config = small_config(*keys, *one_step)
    plain = config.model_copy(update={"privacy": PrivacySettings()})
    model = make_model(config, 10)
    model.head.weight.data.copy_(torch.randn(model.head.weight.shape, generator=torch.manual_seed(1)))
    pixels = np.random.default_rng(0).integers(0, 256, (16, model.backbone.input_size, model.backbone.input_size, 3))
    task = ClientTask(1, 0, model.prefix_features(pixels.astype(np.uint8)), torch.arange(16) % 10)
    updates = []
    for one in (config, plain):  # of one full batch, whose gradients are too short to be clipped
        client, server = make_clients(one, model)["method"], make_servers(one, model)["method"]
        updates.append(client.train(client.receive(server.broadcast()), task).value)
    np.testing.assert_allclose(*updates, atol=1e-6)
    assert np.abs(updates[0]).max() > 1e-5


def _noisy(clip=0.5, noise=2.0, client=0, size=20_000, seed=0, samples=8):
    settings = TrainSettings(epochs=1, batch_size=4, lr=1, optimizer="sgd", momentum=0)
    vector_d = torch.nn.Parameter(torch.zeros(size))
    task = ClientTask(1, client, torch.zeros(samples, 1), torch.zeros(samples, dtype=torch.int64))
    training = PrivateTraining(settings, PrivacySettings(clip=clip, noise=noise), seed)
    training.run(vector_d, task, lambda x, v: 0 * v[:3].expand(len(x), 3), lambda step: (vector_d, None))
    return vector_d.detach().numpy()


def test_noise_has_the_deviation_that_the_settings_say_and_follows_from_the_seed():
    noise_d = _noisy()
    # Two steps, each of four samples on average.
    assert noise_d.std() == pytest.approx(2**0.5 * 2.0 * 0.5 / 4, rel=0.03)
    assert abs(noise_d.mean()) < 4 * noise_d.std() / noise_d.size**0.5
    assert np.array_equal(noise_d, _noisy())
    for other_d in (_noisy(client=1), _noisy(seed=1)):
        assert abs(np.corrcoef(noise_d, other_d)[0, 1]) < 0.03
    assert not _noisy(noise=0.0).any()


def test_samples_are_drawn_by_themselves_at_one_rate():
    settings = TrainSettings(epochs=200, batch_size=4)
    task = ClientTask(1, 0, torch.zeros(10, 1), torch.zeros(10, dtype=torch.int64))
    rate, steps = sampling(settings, 10)
    assert (rate, steps) == (0.4, 600)
    drawn = list(PrivateTraining(settings, PrivacySettings(clip=1), 0)._drawn(task))
    times = np.bincount(torch.cat(drawn).numpy(), minlength=10)
    assert len(drawn) == 600
    assert np.abs(times - 240).max() < 4 * (600 * 0.4 * 0.6) ** 0.5
    assert np.var([len(one) for one in drawn]) == pytest.approx(10 * 0.4 * 0.6, rel=0.2)
    assert sampling(settings, 3) == (1.0, 200)


def test_a_network_that_cannot_be_applied_sample_by_sample_is_named():
    vector_d = torch.nn.Parameter(torch.zeros(3))
    task = ClientTask(1, 0, torch.ones(4, 1), torch.zeros(4, dtype=torch.int64))
    training = PrivateTraining(TrainSettings(), PrivacySettings(clip=0.5), 0)
    with pytest.raises(fedsim.ConfigError, match=r"privacy.clip: found 0.5, allowed: null for this model: vmap"):
        training.run(vector_d, task, lambda x, v: v.expand(len(x), 3) * x.sum().item(), lambda step: (vector_d, None))
