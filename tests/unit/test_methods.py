"""The contract that every method passes, on a small problem and in this process."""

import numpy as np
import pytest

from deltamask import PayloadError
from fedsim.executors import SerialExecutor
from fedsim.federation import Federation
from fedsim.methods import HEADS, METHODS

TIMES = ("_seconds", "prefix_images")  # whoever comes first computes the prefix


class RecordingExecutor(SerialExecutor):
    """Keeps everything that crosses between server and clients."""

    def __init__(self, config):
        super().__init__(config)
        self.uploads, self.broadcasts = {}, {}

    def train(self, stage, round_index, cohort, broadcast):
        self.broadcasts[round_index] = broadcast
        for result in super().train(stage, round_index, cohort, broadcast):
            self.uploads[round_index, result.client] = result.upload.payload
            yield result


def run(config):
    executor = RecordingExecutor(config)
    federation = Federation(config, executor)
    outcomes = []
    while not federation.done:
        outcomes.append(federation.run_round())
    return executor, federation, outcomes


def without_times(row):
    return {key: value for key, value in row.items() if not key.endswith(TIMES)}


@pytest.fixture(params=[method.name for method in METHODS])
def config(request, small_config):
    return small_config(f"method.name={request.param}", "data.clients=3", "model.head_epochs=20")


def test_recorded_bytes_are_the_bytes_sent(config):
    executor, federation, outcomes = run(config)
    for outcome in outcomes:
        index = outcome.round["round"]
        uploads = [executor.uploads[index, row["client"]] for row in outcome.clients]
        downlink = len(executor.broadcasts[index]) * len(uploads)
        bits = [8 * len(upload) for upload in uploads]
        assert [row["payload_bytes"] for row in outcome.clients] == [len(upload) for upload in uploads]
        assert [row["uplink_bpp"] for row in outcome.clients] == [b / federation.dimension for b in bits]
        assert outcome.round["uplink_bytes"] == sum(map(len, uploads))
        assert outcome.round["uplink_bpp"] == pytest.approx(np.mean(bits) / federation.dimension, rel=1e-12)
        assert outcome.round["downlink_bytes"] == downlink
        assert outcome.round["downlink_bpp"] == 8 * downlink / len(uploads) / federation.dimension


def test_it_is_deterministic_and_seeded(config, small_config):
    first, second = run(config)[2], run(config)[2]
    assert [without_times(o.round) for o in first] == [without_times(o.round) for o in second]
    assert [[without_times(r) for r in o.clients] for o in first] == [
        [without_times(r) for r in o.clients] for o in second
    ]
    other = run(small_config(f"method.name={config.method.name}", "data.clients=3", "seed=1"))[2]
    assert other[-1].round["state_digest"] != first[-1].round["state_digest"]


def test_it_keeps_or_gains_accuracy_far_above_chance(config):
    outcomes = run(config)[2]
    assert outcomes[-1].round["accuracy"] > 0.4
    assert outcomes[-1].round["loss"] < np.log(10)


def test_a_restored_state_has_the_same_future(config):
    outcomes = run(config)[2]
    other = Federation(config, SerialExecutor(config))
    other.run_round()
    other.run_round()
    restored = Federation(config, SerialExecutor(config))
    restored.restore({name: array.copy() for name, array in other.state().items()})
    assert restored.next_round == 2
    assert without_times(restored.run_round().round) == without_times(outcomes[2].round)


def test_a_client_with_one_sample_and_skewed_clients_work(small_config, config):
    skewed = small_config(
        f"method.name={config.method.name}",
        "data.clients=200",
        "participation=0.02",
        "data.partition=dirichlet",
        "data.alpha=0.01",
        "rounds=1",
    )
    outcomes = run(skewed)[2]
    assert min(row["samples"] for row in outcomes[0].clients) == 1
    assert len(outcomes[1].clients) == 4


def test_corrupt_uploads_and_broadcasts_raise_the_typed_error(config):
    executor, federation, _ = run(config)
    upload, broadcast = bytearray(executor.uploads[1, 0]), bytearray(executor.broadcasts[1])
    upload[-1] ^= 1
    broadcast[len(broadcast) // 2] ^= 1
    server = federation._servers["method"]
    with pytest.raises(PayloadError, match="checksum"):
        server.absorb(1, 0, 10, bytes(upload))
    with pytest.raises(PayloadError, match="checksum"):
        executor._shard._methods["method"].receive(bytes(broadcast))


# Heads


@pytest.mark.parametrize("head", [head.name for head in HEADS])
def test_every_head_is_fitted_in_round_0_from_bytes_and_then_trained_under(small_config, head):
    executor, _, outcomes = run(small_config(f"model.head={head}", "model.head_epochs=20"))
    expected = {"linear-probe": 0.8, "fit": 0.9, "random": 0.0}
    assert outcomes[0].round["accuracy"] >= expected[head]
    assert outcomes[0].round["uplink_bytes"] == sum(len(executor.uploads[0, client]) for client in range(4))
    assert (outcomes[0].round["uplink_bytes"] > 4 * 1000) == (head != "random")
    assert outcomes[2].round["loss"] < outcomes[0].round["loss"] + 0.05


def test_fit_is_linear_discriminant_analysis(small_config):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    config = small_config("model.head=fit", "model.head_shrinkage=0.2", "data.partition=dirichlet", "data.alpha=0.1")
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
    config = small_config("model.head=fit", "data.train_samples=20", "data.clients=2")
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
    _, federation, _ = run(small_config("participation=0.5", "data.clients=4", "rounds=3"))
    posterior = federation._servers["method"]._posterior
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


def test_deltamask_refuses_a_broadcast_with_impossible_probabilities(small_config):
    executor, federation, _ = run(small_config("rounds=1"))
    server = federation._servers["method"]
    server._posterior.theta_d[0] = 1.0
    with pytest.raises(PayloadError, match="strictly between 0 and 1"):
        executor._shard._methods["method"].receive(server.broadcast())
