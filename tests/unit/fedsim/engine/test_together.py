"""Clients that are trained at once."""

import numpy as np
import pytest

import fedsim
from fedsim.engine import SerialExecutor
from fedsim.methods.training import LocalTraining
from fedsim.testing import run_rounds

SKEWED = ["rounds=1", "partition.name=dirichlet", "partition.alpha=0.5", "partition.clients=5", "train.epochs=2"]
LIGHT = ["model.name=mlp", "model.size=8", "model.masked_blocks=1", "train.batch_size=32"]
VARIANTS = {
    "fedavg": ["method.name=fedavg"],
    "logistic": ["method.name=fedavg", "head.name=joint", "model.hidden=[]", "model.masked_blocks=0"],
    "cnn": ["method.name=fedavg", "model={name: cnn, size: 8, masked_blocks: 3}"],
    "transformer": ["method.name=deltamask", "model={name: tiny-vit, masked_blocks: 1}"],
    "lora": [
        "method.name=lora",
        "train.logit_adjustment=1",
        "method.error_feedback=true",
        "method.compressor={name: top-k}",
    ],
    "deltamask": ["method.name=deltamask", "method.flip_penalty=0.01", "train.optimizer=normalized-sgd"],
    "expected": ["method.name=fedpm", "method.forward=expected", "train.precision=bf16"],
}


@pytest.fixture(params=VARIANTS)
def config(request, small_config):
    return small_config(*SKEWED, *LIGHT, *VARIANTS[request.param], "train.together=3")


def _broadcast(config):
    return run_rounds(config)[0].broadcasts[1]


def test_what_comes_of_a_client_does_not_depend_on_the_others(config):
    broadcast = _broadcast(config)
    trainer = SerialExecutor(config).trainer
    orders = ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1], [3], [1, 3], [0])
    found = [{u.client: u for u in trainer.train("method", 1, clients, broadcast, {})} for clients in orders]
    for uploads in found[1:]:
        for client, upload in uploads.items():
            assert upload.error is None
            assert upload.update == found[0][client].update
            assert upload.train_loss == found[0][client].train_loss


def test_it_is_what_one_by_one_gives_but_for_rounding(config):
    executor, together, outcomes = run_rounds(config)
    alone = config.model_copy(update={"train": config.train.model_copy(update={"together": 1})})
    expected_executor, one_by_one, expected = run_rounds(alone)
    assert executor.uploads.keys() == expected_executor.uploads.keys()
    for row, expected_row in zip(outcomes[1].clients, expected[1].clients, strict=True):
        assert row["train_loss"] == pytest.approx(expected_row["train_loss"], rel=2e-2)
    if config.method.name == "fedavg":
        ours, theirs = (federation.servers["method"].state()["vector"] for federation in (together, one_by_one))
        np.testing.assert_allclose(ours, theirs, atol=1e-3)  # Adam turns the sign of a tiny gradient into a step


def test_a_client_that_diverges_costs_the_others_nothing(small_config, monkeypatch):
    config = small_config(*SKEWED, *LIGHT, "method.name=fedavg", "train.together=5", "on_client_error=drop")
    expected = run_rounds(config)[0].uploads
    run_together = LocalTraining.run_together

    def diverging(self, start_d, tasks, logits, **keys):
        vectors, losses = run_together(self, start_d, tasks, logits, **keys)
        return vectors, [float("nan") if task.client == 2 else loss for task, loss in zip(tasks, losses, strict=True)]

    monkeypatch.setattr(LocalTraining, "run_together", diverging)
    executor, _, outcomes = run_rounds(config)
    [lost] = [row for row in outcomes[1].clients if "error" in row]
    assert lost["client"] == 2
    assert lost["error"].startswith("FloatingPointError: the loss is nan")
    kept = {key: upload for key, upload in expected.items() if key != (1, 2)}
    assert {key: upload for key, upload in executor.uploads.items() if key != (1, 2)} == kept


def test_methods_that_cannot_say_so(small_config):
    with pytest.raises(fedsim.ConfigError, match=r"train.together: found 2, allowed: 1, or a method of: .*deltamask"):
        small_config("method.name=fedmask", "train.together=2")
    with pytest.raises(fedsim.ConfigError, match=r"train.together: found 2, allowed: 1, or a method of:"):
        small_config("method.name=tests.unit.fedsim.engine.faulty:Faulty", "train.together=2")


def test_a_run_of_one_at_a_time_is_named_as_before(small_config):
    config, one, two = (small_config(*keys) for keys in ([], ["train.together=1"], ["train.together=2"]))
    assert config.run_id == one.run_id != two.run_id
