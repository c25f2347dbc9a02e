"""How clients fare on the samples that they hold out of training."""

import numpy as np
import pytest
import torch
from torch.func import functional_call

import fedsim
from fedsim.data import load_dataset
from fedsim.data.partition import make_partition
from fedsim.engine._held_out import HeldOutSamples
from fedsim.testing import run_rounds

LIGHT = [
    *("model.name=mlp", "model.size=8", "model.masked_blocks=1", "train.batch_size=32", "rounds=2"),
    *("partition.name=dirichlet", "partition.alpha=0.5", "partition.clients=5", "evaluate.clients=0.3"),
]
METHODS = {
    "deltamask": ["method.name=deltamask", "train.lr=0.3"],
    "expected": ["method.name=fedpm", "method.deployed=expected"],
    "fedmask": ["method.name=fedmask", "train.lr=0.3"],
    "error feedback": ["method.name=fedavg", "method.compressor={name: top-k}", "method.error_feedback=true"],
    "fedex-lora": ["method.name=fedex-lora"],
    "linear-probe": ["method.name=linear-probe", "train.epochs=2"],
}
COLUMNS = ["held_out_samples", "client_accuracy", "client_loss", "personal_accuracy", "personal_loss"]


@pytest.fixture
def light(small_config):
    return lambda *keys: small_config(*LIGHT, *keys)


def fares(outcomes):
    """The columns of all clients that have them, by round and client."""
    rows = [row for outcome in outcomes for row in outcome.clients if "client_accuracy" in row]
    return {(row["round"], row["client"]): [row[name] for name in COLUMNS] for row in rows}


def held_out(config, client):
    dataset = load_dataset(config.data, config.seed)
    rows = make_partition(dataset, config.partition, config.seed).indices(client)
    return HeldOutSamples(config).split(client, rows)


def test_the_split_is_by_seed_and_client_and_leaves_something_of_both(light):
    samples, again, other = (HeldOutSamples(light(*keys)) for keys in ([], [], ["seed=1"]))
    for count in (2, 3, 10, 101):
        rows = 1000 + 7 * np.arange(count)
        train, kept = samples.split(4, rows)
        assert sorted([*train, *kept]) == rows.tolist()
        assert len(kept) == max(1, round(0.3 * count))
        assert [part.tolist() for part in again.split(4, rows)] == [train.tolist(), kept.tolist()]
    assert samples.split(5, rows)[1].tolist() != kept.tolist() != other.split(4, rows)[1].tolist()
    assert [part.tolist() for part in samples.split(4, rows[:1])] == [rows[:1].tolist(), []]
    assert len(HeldOutSamples(light("evaluate.clients=0.99")).split(4, rows)[0]) == 1
    assert HeldOutSamples(light("evaluate.clients=null")).split(4, rows)[0] is rows


@pytest.mark.parametrize("share", ["0", "1"])
def test_a_share_that_leaves_nothing_is_refused(small_config, share):
    with pytest.raises(fedsim.ConfigError, match=rf"evaluate.clients: found {share}, allowed"):
        small_config(f"evaluate.clients={share}")


def test_a_run_without_is_named_as_before_and_has_no_such_columns(small_config):
    assert small_config().run_id == small_config("evaluate.clients=null").run_id
    assert small_config().run_id != small_config("evaluate.clients=0.1").run_id
    outcomes = run_rounds(small_config(*LIGHT[:-1], "rounds=1"))[2]
    assert not fares(outcomes)
    assert not [name for name in outcomes[1].round if name.startswith(("client_", "personal_"))]


@pytest.mark.parametrize("deployed", ["mask", "expected"])
def test_accuracies_are_those_of_an_evaluation_by_hand(light, deployed):
    config = light("method.name=deltamask", f"method.deployed={deployed}", "train.lr=5", "rounds=1")
    executor, _, outcomes = run_rounds(config)
    trainer = executor.trainer
    method = trainer._clients["method"]
    state = method.receive(executor.broadcasts[1].full)
    for (_, client), found in fares(outcomes).items():
        train, rows = held_out(config, client)
        assert (outcomes[1].clients[client]["samples"], found[0]) == (len(train), len(rows))
        features, labels = (tensor.clone() for tensor in trainer.samples("train", rows))
        own_d = method.train(state, trainer._task(1, client, train, {})).value.numpy()
        expected = [len(rows)]
        for theta_d in (state.theta_d, own_d):
            logits = masked_logits(trainer._model, theta_d > 0.5 if deployed == "mask" else theta_d, features)
            chances = np.exp(logits - logits.max(1, keepdims=True))
            chances /= chances.sum(1, keepdims=True)
            expected += [(chances.argmax(1) == labels.numpy()).mean()]
            expected += [-np.log(chances[np.arange(len(rows)), labels]).mean()]
        assert found == pytest.approx(expected, rel=1e-4)
        assert expected[2] != expected[4]


def masked_logits(model, multiplier_d, features):
    """Logits with the masked parameters multiplied."""
    parameters, start, masked = dict(model.network.named_parameters()), 0, {}
    for name in model.masked_names:
        size = parameters[name].numel()
        part = torch.from_numpy(multiplier_d[start : start + size]).float().view(parameters[name].shape)
        masked[name], start = parameters[name] * part, start + size
    with torch.no_grad():
        return functional_call(model.network, masked, (features,)).double().numpy()


@pytest.mark.parametrize("method", ["fedavg", "lora", "linear-probe", "fedkseed"])
def test_the_model_of_the_only_client_is_the_global_one_of_the_next_round(small_config, method):
    alone = ["partition.clients=1", "data.train_samples=200", "evaluate.clients=0.3", f"method.name={method}"]
    outcomes = run_rounds(small_config(*LIGHT[:3], *alone))[2]
    first, second = (fares(outcomes)[index, 0] for index in (1, 2))
    assert first[3:] == pytest.approx(second[1:3], rel=1e-5)
    assert first[4] != first[2]


@pytest.mark.parametrize("method", METHODS)
def test_evaluation_changes_nothing_that_is_sent(light, method):
    ways = [run_rounds(light(*METHODS[method], f"evaluate.every={every}")) for every in (1, 2)]
    assert ways[0][0].uploads == ways[1][0].uploads
    known = [fares(outcomes) for *_, outcomes in ways]
    assert {index for index, _ in known[0]} == {1, 2}
    assert {index for index, _ in known[1]} == {2}
    assert known[1].items() <= known[0].items()
    assert all(None not in columns for columns in known[0].values())
    assert any(columns[2] != columns[4] for columns in known[0].values())


def test_clients_that_are_trained_at_once_fare_alike_but_for_rounding(light):
    alone, together = (fares(run_rounds(light("method.name=fedavg", *keys))[2]) for keys in ([], ["train.together=3"]))
    assert alone.keys() == together.keys()
    for key, columns in alone.items():
        assert together[key] == pytest.approx(columns, rel=0.02, abs=0.02)
        if key[0] == 1:  # what they received is the same
            assert together[key][:3] == columns[:3]


def test_whoever_has_one_sample_holds_out_none(light):
    outcomes = run_rounds(light("partition.clients=100", "data.train_samples=150", "partition.alpha=0.1", "rounds=1"))[
        2
    ]
    single = [row for row in outcomes[1].clients if "client_accuracy" not in row]
    assert single
    assert {row["samples"] for row in single} == {1}
    accuracies = sorted(row["client_accuracy"] for row in outcomes[1].clients if "client_accuracy" in row)
    row, worst = outcomes[1].round, accuracies[: len(accuracies) // 10]
    assert len(worst) > 1
    assert row["client_accuracy_mean"] == pytest.approx(np.mean(accuracies))
    assert row["client_accuracy_worst_tenth"] == pytest.approx(np.mean(worst))
    assert row["client_accuracy_spread"] == pytest.approx(np.std(accuracies))


def test_the_final_model_is_counted_by_class(light):
    loaded = fedsim.run(light("method.name=fedavg", "evaluate.every=2", "rounds=3")).load()
    classes, last = loaded.classes, loaded.rounds.iloc[-1]
    assert classes["class"].tolist() == list(range(10))
    assert classes["class_name"].tolist() == [str(digit) for digit in range(10)]
    assert classes["correct"].sum() / classes["samples"].sum() == last["accuracy"]
    assert (classes["accuracy"] == classes["correct"] / classes["samples"]).all()
    labels = load_dataset(light().data, 0).test.labels
    assert classes["samples"].tolist() == np.bincount(labels).tolist()
