"""The contract that every method passes, on a small problem and in this process."""

from functools import cache

import numpy as np
import pytest
import torch

import fedsim
from deltamask import PayloadError, codecs, stream_key
from deltamask.payload import HEADER_BYTES
from fedsim import ConfigError
from fedsim.compression import make_compressor
from fedsim.engine import Federation, SerialExecutor
from fedsim.methods import HEADS, METHODS
from fedsim.methods.base import Broadcast
from fedsim.methods.mask import unpack_mask
from fedsim.methods.training import make_optimizer
from fedsim.settings import TrainSettings
from pipelines.benchmarks.flips import of_real_rounds

TIMES = ("_seconds", "prefix_images")  # whoever comes first computes the prefix


class RecordingExecutor(SerialExecutor):
    """Keeps everything that crosses between server and clients."""

    def __init__(self, config):
        super().__init__(config)
        self.uploads, self.broadcasts = {}, {}

    def train(self, stage, round_index, cohort, broadcast, memories):
        self.broadcasts[round_index] = broadcast
        for result in super().train(stage, round_index, cohort, broadcast, memories):
            self.uploads[round_index, result.client] = result.upload.payload
            yield result


def run(config):
    executor = RecordingExecutor(config)
    federation = Federation(config, executor)
    outcomes = []
    while not federation.done:
        outcomes.append(federation.run_round())
    return executor, federation, outcomes


@cache
def run_once(config):
    """The same for all tests that only look at it."""
    return run(config)


def without_times(row):
    return {key: value for key, value in row.items() if not key.endswith(TIMES)}


VARIANTS = {
    "sparse fedavg": ["method.name=fedavg", "method.compressor.name=top-k", "method.error_feedback=true"],
    "fedavgm": ["method.name=fedavg", "method.server_momentum=0.5", "method.server_lr=0.5", "train.optimizer=sgd"],
    "eden 0.09": ["method.name=eden", "method.compressor.rate=0.09", "train.lr=1e-4"],
    "half lora": ["method.name=lora", "method.compressor.name=none", "method.compressor.dtype=float16"],
}


@pytest.fixture(params=[*(method.name for method in METHODS), *VARIANTS])
def overrides(request):
    """What selects a method, and how methods are combined with compressors."""
    return VARIANTS.get(request.param) or [f"method.name={request.param}"]


@pytest.fixture
def config(overrides, small_config):
    return small_config(*overrides, "partition.clients=3", "head.epochs=20", "output=unused")


def test_recorded_bytes_are_the_bytes_sent(config):
    executor, federation, outcomes = run_once(config)
    for outcome in outcomes:
        index = outcome.round["round"]
        uploads = [executor.uploads[index, row["client"]] for row in outcome.clients]
        broadcast = executor.broadcasts[index]
        # Every client takes part in every round, so after the first one it has the state before.
        sizes = [len(broadcast.full), *([len(broadcast.update)] if broadcast.update else [])]
        assert [row["downlink_bytes"] for row in outcome.clients] == [min(sizes)] * len(uploads)
        downlink = sum(row["downlink_bytes"] for row in outcome.clients)
        bits = [8 * len(upload) for upload in uploads]
        assert [row["payload_bytes"] for row in outcome.clients] == [len(upload) for upload in uploads]
        assert [row["uplink_bpp"] for row in outcome.clients] == [b / federation.dimension for b in bits]
        assert outcome.round["uplink_bytes"] == sum(map(len, uploads))
        assert outcome.round["uplink_bpp"] == pytest.approx(np.mean(bits) / federation.dimension, rel=1e-12)
        assert outcome.round["downlink_bytes"] == downlink
        assert outcome.round["downlink_bpp"] == 8 * downlink / len(uploads) / federation.dimension


def test_it_is_deterministic_and_seeded(config, overrides, small_config):
    first, second = run_once(config)[2], run(config)[2]
    assert [without_times(o.round) for o in first] == [without_times(o.round) for o in second]
    assert [[without_times(r) for r in o.clients] for o in first] == [
        [without_times(r) for r in o.clients] for o in second
    ]
    other = Federation(seeded := small_config(*overrides, "partition.clients=3", "seed=1"), SerialExecutor(seeded))
    assert other.run_round().round["state_digest"] != first[0].round["state_digest"]


def test_it_keeps_or_gains_accuracy_far_above_chance(config):
    outcomes = run_once(config)[2]
    assert outcomes[-1].round["accuracy"] > 0.4
    assert outcomes[-1].round["loss"] < np.log(10)


def test_a_restored_state_has_the_same_future(config):
    executor, _, outcomes = run_once(config)
    other = Federation(config, executor)
    other.run_round()
    other.run_round()
    restored = Federation(config, executor)
    restored.restore({name: array.copy() for name, array in other.state().items()})
    assert restored.next_round == 2
    assert without_times(restored.run_round().round) == without_times(outcomes[2].round)


def test_a_client_with_one_sample_and_skewed_clients_work(small_config, overrides):
    skewed = small_config(
        *overrides,
        "partition.clients=200",
        "participation=0.02",
        "partition.name=dirichlet",
        "partition.alpha=0.01",
        "rounds=1",
    )
    outcomes = run(skewed)[2]
    assert min(row["samples"] for row in outcomes[0].clients) == 1
    assert len(outcomes[1].clients) == 4


def test_corrupt_uploads_and_broadcasts_raise_the_typed_error(config):
    executor, federation, _ = run_once(config)
    upload, broadcast = bytearray(executor.uploads[1, 0]), bytearray(executor.broadcasts[1].full)
    upload[-1] ^= 1
    broadcast[len(broadcast) // 2] ^= 1
    server = federation._servers["method"]
    with pytest.raises(PayloadError, match="checksum"):
        server.absorb(1, 0, 10, bytes(upload))
    client = executor._shard._methods["method"]
    with pytest.raises(PayloadError, match="checksum"):
        client.receive(bytes(broadcast))
    if executor.broadcasts[2].update is not None:
        update = bytearray(executor.broadcasts[2].update)
        update[-1] ^= 1
        with pytest.raises(PayloadError, match="checksum"):
            client.receive_update(bytes(update), client.receive(executor.broadcasts[1].full))


def test_whoever_has_only_the_whole_state_has_what_updates_lead_to(config):
    executor, federation, _ = run_once(config)
    full = Broadcast(federation._servers["method"].broadcast())
    assert full.name == federation._broadcast[1].name
    scores = [other.evaluate("method", 2, 1, full) for other in (executor, SerialExecutor(config))]
    assert scores[0] == scores[1]


# Heads


@pytest.mark.parametrize("head", [head.name for head in HEADS])
def test_every_head_is_fitted_in_round_0_from_bytes_and_then_trained_under(small_config, head):
    executor, _, outcomes = run(small_config(f"head.name={head}", "head.epochs=20"))
    expected = {"linear-probe": 0.8, "fit": 0.9, "random": 0.0}
    assert outcomes[0].round["accuracy"] >= expected[head]
    assert outcomes[0].round["uplink_bytes"] == sum(len(executor.uploads[0, client]) for client in range(4))
    assert (outcomes[0].round["uplink_bytes"] > 4 * 1000) == (head != "random")
    assert outcomes[2].round["loss"] < outcomes[0].round["loss"] + 0.05


def test_fit_is_linear_discriminant_analysis(small_config):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    config = small_config("head.name=fit", "head.shrinkage=0.2", "partition.name=dirichlet", "partition.alpha=0.1")
    executor, federation, _ = run(config)
    shard = executor._shard
    (x, y), (test_x, _) = (shard._samples(part, np.arange(count)) for part, count in (("train", 1437), ("test", 360)))
    x, test_x = (shard._model.embed(features).numpy().astype(float) for features in (x, test_x))
    reference = LinearDiscriminantAnalysis(solver="lsqr", priors=np.bincount(y) / len(y), shrinkage=None)
    means = np.stack([x[y == c].mean(0) for c in range(10)])
    centred = x - means[y]
    covariance = centred.T @ centred / len(x)
    covariance = 0.8 * covariance + 0.2 * np.trace(covariance) / 128 * np.eye(128)
    reference.classes_, reference.coef_ = np.arange(10), np.linalg.solve(covariance, means.T).T
    reference.intercept_ = np.log(np.bincount(y) / len(y)) - 0.5 * (reference.coef_ * means).sum(1)
    head = federation._model.head_state()
    ours = (test_x @ head["weight"].T + head["bias"]).argmax(1)
    assert (ours == reference.predict(test_x)).mean() > 0.995


def test_fit_puts_up_with_labels_that_no_client_has(small_config):
    config = small_config("head.name=fit", "data.train_samples=20", "partition.clients=2")
    assert np.isfinite(run(config)[2][0].round["loss"])


# DeltaMask


def test_deltamask_counts_flips_as_the_codec_makes_them(small_config):
    for codec, rate in (("fuse8+png", 2**-8), ("fuse16", 2**-16)):
        _, federation, outcomes = run(small_config(f"method.codec={codec}", "rounds=1"))
        row, clients = outcomes[1].round, outcomes[1].clients
        expected = rate * len(clients) * federation.dimension
        assert row["flips"] == sum(c["sent_size"] for c in clients) + row["false_flips"]
        assert abs(row["false_flips"] - expected) < 6 * np.sqrt(expected) + 1
        assert all(c["sent_size"] == int(np.ceil(0.8 * c["delta_size"])) for c in clients)


def test_deltamask_resets_its_posterior_by_participation(small_config):
    _, federation, _ = run(small_config("participation=0.5", "partition.clients=4", "rounds=3"))
    posterior = federation._servers["method"]._probabilities
    assert posterior.reset_every == 2
    assert posterior.trials == 2  # the third round of two clients, after the reset of the second


def test_deltamask_head_is_frozen_after_its_round(small_config):
    executor = RecordingExecutor(config := small_config())
    federation = Federation(config, executor)
    federation.run_round()
    head = federation._model.head_state()
    federation.run_round()
    federation.run_round()
    assert all(np.array_equal(head[name], array) for name, array in federation._model.head_state().items())
    assert all(array.any() for array in head.values())


MASKS = {
    "posterior": ["method.name=deltamask", "method.reset_every=2"],
    "random start": ["method.name=deltamask", "method.scores_init=normal"],
    "coupled": ["method.name=deltamask-plus", "method.server_momentum=0", "method.weighting=uniform"],
    "momentum": ["method.name=deltamask-plus"],
    "inexact": ["method.name=deltamask-plus", "method.codec=fuse8+png"],
}


@pytest.mark.parametrize("name", MASKS)
def test_updates_of_masks_are_far_smaller_than_theta_and_lead_to_it(name, small_config):
    executor, federation, _ = run(small_config(*MASKS[name], "rounds=3", "partition.clients=3"))
    client = executor._shard._methods["method"]
    state = client.receive(executor.broadcasts[1].full)
    for index in (2, 3):
        state = client.receive_update(executor.broadcasts[index].update, state)
        assert np.array_equal(state.theta_d, client.receive(executor.broadcasts[index].full).theta_d)
        # At most 3 bits a parameter, of 32.
        assert len(executor.broadcasts[index].update) < 3 / 8 * federation.dimension
    assert len(executor.broadcasts[1].full) < 10_000  # the head: theta is known at the start


def test_who_missed_rounds_gets_all_updates_since_or_the_whole_state(small_config):
    config = small_config("method.name=deltamask-plus", "rounds=6", "partition.clients=6", "participation=0.5")
    executor, federation, outcomes = run(config)
    steps, last = federation._steps, {}
    assert steps[0] == len(executor.broadcasts[1].full)
    assert steps[1:6] == [len(executor.broadcasts[index].update) for index in range(2, 7)]
    for index, outcome in enumerate(outcomes[1:], start=1):
        for row in outcome.clients:
            missed = sum(steps[last.get(row["client"], 0) : index])
            assert row["downlink_bytes"] == min(missed, len(executor.broadcasts[index].full))
            last[row["client"]] = index
    assert len({row["downlink_bytes"] for outcome in outcomes[3:] for row in outcome.clients}) > 3


@pytest.mark.parametrize("mode", ["common", "independent"])
def test_other_uniforms_cost_what_they_should(mode, small_config):
    def sizes(*overrides):
        return run(small_config("rounds=2", "partition.clients=3", "method.codec=range", *overrides))[2][2].round

    usual, other = sizes(), sizes(f"method.reference={mode}")
    if mode == "common":  # the masks of all clients differ from one reference, so theta is polarised at once
        assert other["bound_share"] > usual["bound_share"] + 0.02
    else:  # two draws differ wherever theta is not near 0 or 1
        assert other["uplink_bytes"] > 3 * usual["uplink_bytes"]


def test_a_penalty_on_flips_saves_flips(small_config):
    flips = [
        run(small_config("rounds=1", "method.name=deltamask-plus", f"method.flip_penalty={penalty}"))[2][1]
        for penalty in (0, 1e-4)
    ]
    assert sum(row["delta_size"] for row in flips[1].clients) < 0.9 * sum(row["delta_size"] for row in flips[0].clients)


def test_parameters_that_the_aggregation_ignores_are_refused(small_config):
    with pytest.raises(ConfigError, match=r"server_momentum: found 0\.9, allowed: 0\.0, with aggregation 'posterior'"):
        small_config("method.server_momentum=0.9")


def test_deltamask_with_an_exact_codec_has_no_false_flips(small_config):
    _, _, outcomes = run(small_config("method.codec=range"))
    assert all(outcome.round["false_flips"] == 0 for outcome in outcomes[1:])
    _, _, inexact = run(small_config())
    assert outcomes[1].round["uplink_bytes"] < 0.5 * inexact[1].round["uplink_bytes"]


def test_normalised_sgd_does_not_depend_on_the_scale_of_the_loss():
    moved = []
    for scale in (1.0, 1000.0):
        parameter = torch.nn.Parameter(torch.zeros(3))
        optimizer = make_optimizer(TrainSettings(optimizer="normalized-sgd", lr=0.1, momentum=0.9), [parameter])
        for _ in range(2):
            optimizer.zero_grad()
            (scale * parameter @ torch.tensor([1.0, -2.0, 2.0])).backward()
            optimizer.step()
        moved.append(parameter.detach())
    # Gradient over its root mean square, sqrt(3); the second step adds 0.9 of the first.
    assert torch.allclose(moved[0], -0.1 * (1 + 1.9) * torch.tensor([1.0, -2.0, 2.0]) / 3**0.5, atol=1e-6)
    assert torch.allclose(moved[0], moved[1], atol=1e-6)
    parameter.grad = torch.zeros(3)
    optimizer.step()
    assert parameter.isfinite().all()


# Other masks


def test_fedpm_sends_masks_at_their_empirical_entropy_and_averages_them(small_config):
    executor, federation, _ = run(small_config("method.name=fedpm", "rounds=1", "partition.clients=3"))
    masks = [unpack_mask(executor.uploads[1, client], federation.dimension, "arithmetic") for client in range(3)]
    for client, mask in enumerate(masks):
        share = mask.mean()
        entropy = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
        assert 8 * len(executor.uploads[1, client]) / mask.size == pytest.approx(entropy, rel=0.02)
        assert 0.85 < share < 0.99
    expected = np.clip(np.mean(masks, axis=0), 0.01, 0.99).astype(np.float32)
    assert np.array_equal(federation._servers["method"]._probabilities.theta_d, expected)


def test_fedpm_may_start_from_normal_scores(small_config):
    config = small_config("method.name=fedpm", "method.scores_init=normal")
    theta = Federation(config, SerialExecutor(config))._servers["method"]._probabilities.theta_d
    assert np.log(theta / (1 - theta)).std() == pytest.approx(1, abs=0.02)
    assert theta.mean() == pytest.approx(0.5, abs=0.01)


def test_fedmask_sends_one_bit_a_parameter_and_averages_masks(small_config):
    executor, federation, _ = run(small_config("method.name=fedmask", "rounds=1", "partition.clients=3"))
    masks = [unpack_mask(executor.uploads[1, client], federation.dimension, "bitmap") for client in range(3)]
    assert all(len(executor.uploads[1, client]) == HEADER_BYTES + federation.dimension // 8 for client in range(3))
    assert all(0 < mask.mean() < 1 for mask in masks)
    assert np.array_equal(federation.state()["method.scores"], np.mean(masks, axis=0).astype(np.float32))


# Dense updates


def mean_update(executor, federation, params, weights):
    compressor = make_compressor(params)
    size = federation.state()["method.vector"].size
    updates = [
        compressor.decode(executor.uploads[1, client], size, stream_key(0, "compression", 1, client))
        for client in range(len(weights))
    ]
    return np.average(updates, axis=0, weights=weights)


@pytest.mark.parametrize(("method", "weighted"), [("fedavg", True), ("drive", False), ("lora", True)])
def test_the_server_adds_the_mean_of_the_updates_weighted_as_each_paper_says(small_config, method, weighted):
    config = small_config(f"method.name={method}", "rounds=1", "partition.clients=3", "partition.name=quantity")
    executor, federation, outcomes = run(config)
    start = Federation(config, executor).state()["method.vector"]
    weights = [row["samples"] if weighted else 1 for row in outcomes[1].clients]
    expected = start + mean_update(executor, federation, config.method.compressor, weights)
    assert np.allclose(federation.state()["method.vector"], expected, atol=1e-6)


def test_server_momentum_and_learning_rate(small_config):
    plain = small_config("method.name=fedavg", "rounds=1")
    changed = small_config("method.name=fedavg", "rounds=2", "method.server_lr=0.5", "method.server_momentum=0.9")
    start = Federation(plain, executor := SerialExecutor(plain)).state()["method.vector"]
    other = Federation(changed, SerialExecutor(changed))
    full = Federation(plain, executor)
    vectors = []
    for federation in (full, other):
        federation.run_round()
        federation.run_round()
        vectors.append(federation.state()["method.vector"])
    assert np.allclose(vectors[1] - start, 0.5 * (vectors[0] - start), atol=1e-7)
    momentum = other.state()["method.momentum"]
    other.run_round()
    step = other.state()["method.vector"] - vectors[1]
    assert np.allclose(step, 0.5 * other.state()["method.momentum"], atol=1e-7)
    assert np.abs(other.state()["method.momentum"] - 0.9 * momentum).max() > 1e-5


def test_error_feedback_keeps_what_was_not_sent_for_the_clients_next_round(small_config):
    overrides = ["method.name=fedavg", "method.compressor.name=top-k", "rounds=2", "partition.clients=2"]
    executor, federation, _ = run(small_config(*overrides, "method.error_feedback=true"))
    plain, *_ = run(small_config(*overrides))
    assert executor.uploads[1, 0] == plain.uploads[1, 0]
    assert executor.uploads[2, 0] != plain.uploads[2, 0]
    state = federation.state()
    compressor = make_compressor(executor._shard._config.method.compressor)
    for client in range(2):
        sent = compressor.decode(executor.uploads[2, client], federation.dimension, 0)
        memory = state[f"varying.memory.{client}"]
        assert not memory[sent != 0].any()
        assert np.count_nonzero(memory) > 0.9 * federation.dimension


def test_what_clients_remember_survives_a_resume(small_config):
    config = small_config(*VARIANTS["sparse fedavg"], "partition.clients=2")

    def stop(row):
        if row["round"] == 1:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fedsim.run(config, progress=fedsim.Progress(on_round=stop))
    resumed = fedsim.run(config).load().rounds
    assert resumed["state_digest"].tolist() == [outcome.round["state_digest"] for outcome in run(config)[2]]


def test_lora_bytes_are_exact_and_its_start_is_the_backbone(small_config):
    config = small_config("method.name=lora", "method.rank=2", "method.compressor.dtype=float16", "rounds=1")
    executor, _, _ = run(config)
    # One block of width 128: in_proj (384, 128), out_proj (128, 128), linear1 (512, 128), linear2 (128, 512).
    factors = 2 * (512 + 256 + 640 + 640)
    assert len(executor.uploads[1, 0]) == HEADER_BYTES + 2 * factors
    model = executor._shard._model
    net = METHODS.get("lora").vectorise(config, model)
    features, _ = executor._shard._samples("test", np.arange(8))
    assert torch.allclose(net(features, net.weights_d), model.network(features), atol=1e-6)
    a, b = torch.randn(2, 128), torch.randn(384, 2)
    changed = net.weights_d.clone()
    changed[: 2 * 512] = torch.cat([a.flatten(), b.flatten()])
    weight = model.network.get_parameter(model.masked_names[0])
    with torch.no_grad():
        expected = torch.func.functional_call(model.network, {model.masked_names[0]: weight + 4 * b @ a}, (features,))
        assert torch.allclose(net(features, changed), expected, atol=1e-4)


def test_lora_targets_are_chosen_by_name(small_config):
    config = small_config("method.name=lora", "method.targets=attn")
    model = SerialExecutor(config)._shard._model
    assert METHODS.get("lora").vectorise(config, model).weights_d.numel() == 4 * (512 + 256)
    config = small_config("method.name=lora", "method.targets=qkv")
    with pytest.raises(
        ConfigError, match=r"method.targets: found 'qkv', allowed: what one of these contains: 0\.0\.self"
    ):
        METHODS.get("lora").vectorise(config, model)


def test_bitfit_trains_the_biases_of_the_masked_blocks(small_config):
    config = small_config("method.name=bitfit")
    net = METHODS.get("bitfit").vectorise(config, SerialExecutor(config)._shard._model)
    # in_proj, out_proj, linear1, linear2 and two norms
    assert net.weights_d.numel() == 384 + 128 + 512 + 128 + 128 + 128


def test_flips_of_real_rounds_are_those_that_are_sent():
    flips = of_real_rounds("deltamask", {"name": "tiny-vit"}, rounds=1, samples=64, seed=0)
    body = codecs.get("range").encode_given(flips.indices, flips.theta_d, flips.key)
    assert 8 * len(body) < 0.4 * 8 * len(codecs.get("fuse8+png").encode(flips.indices, flips.theta_d.size))
