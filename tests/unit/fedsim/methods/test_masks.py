"""What is particular to the other methods that send masks."""

import numpy as np
import pytest

from deltamask.payload import HEADER_BYTES
from fedsim.engine import Federation, SerialExecutor
from fedsim.methods.fedmask import FedMask
from fedsim.methods.wire import unpack_mask
from fedsim.testing import run_rounds


def test_fedpm_sends_masks_at_their_empirical_entropy_and_averages_them(small_config):
    executor, federation, _ = run_rounds(small_config("method.name=fedpm", "rounds=1", "partition.clients=3"))
    masks = [unpack_mask(executor.uploads[1, client], federation.dimension, "arithmetic") for client in range(3)]
    for client, mask in enumerate(masks):
        share = mask.mean()
        entropy = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
        assert 8 * len(executor.uploads[1, client]) / mask.size == pytest.approx(entropy, rel=0.02)
        assert 0.85 < share < 0.99
    expected = np.clip(np.mean(masks, axis=0), 0.01, 0.99).astype(np.float32)
    assert np.array_equal(federation.servers["method"]._probabilities.theta_d, expected)


def test_fedpm_may_start_from_normal_scores(small_config):
    config = small_config("method.name=fedpm", "method.scores_init=normal")
    theta = Federation(config, SerialExecutor(config)).servers["method"]._probabilities.theta_d
    assert np.log(theta / (1 - theta)).std() == pytest.approx(1, abs=0.02)
    assert theta.mean() == pytest.approx(0.5, abs=0.01)


def test_fedmask_sends_one_bit_a_parameter_and_averages_masks(small_config):
    config = small_config("method.name=fedmask", "rounds=1", "partition.clients=3", "data.train_samples=1437")
    executor, federation, _ = run_rounds(config)
    masks = [unpack_mask(executor.uploads[1, client], federation.dimension, "bitmap") for client in range(3)]
    assert all(len(executor.uploads[1, client]) == HEADER_BYTES + federation.dimension // 8 for client in range(3))
    assert all(0 < mask.mean() < 1 for mask in masks)
    assert np.array_equal(federation.state()["method.ones_d"], np.sum(masks, axis=0))
    client = FedMask.client(config.method, config, federation.model)
    scores = config.method.scores(client.receive(federation.servers["method"].broadcast()).probabilities)
    assert np.array_equal(scores, np.mean(masks, axis=0).astype(np.float32))


@pytest.mark.parametrize("method", ["deltamask", "fedpm"])
def test_the_model_to_keep_may_be_that_of_expected_weights(small_config, method):
    keys = [f"method.name={method}", "method.deployed=expected", "method.forward=expected", "rounds=2"]
    keys += ["evaluate.also=[expected]"]
    _, _, outcomes = run_rounds(small_config(*keys))
    sampled = run_rounds(small_config(*keys, "method.forward=sampled"))[2]
    mask = run_rounds(small_config(*keys, "method.deployed=mask"))[2]
    for outcome, kept in zip(outcomes[1:], mask[1:], strict=True):
        assert outcome.round["accuracy"] == outcome.round["accuracy_expected"] == kept.round["accuracy_expected"]
        assert outcome.round["state_digest"] == kept.round["state_digest"]
        assert outcome.round["loss"] != kept.round["loss"]
    assert sampled[1].round["state_digest"] != outcomes[1].round["state_digest"]
