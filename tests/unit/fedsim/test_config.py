import json
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim import ConfigError, load_config
from fedsim.config import Config


def test_defaults_are_valid_and_name_a_run():
    config = load_config()
    assert (config.method.name, config.data.name, config.cluster.executor) == ("deltamask", "digits", "ray")
    assert config.run_id.startswith("deltamask-digits-tiny-vit-s0-")


def test_yaml_then_overrides(tmp_path):
    path = tmp_path / "experiment.yaml"
    path.write_text("rounds: 7\npartition: {clients: 5}\nmethod: {kappa: 0.5}\n")
    config = load_config(
        path, ["partition.alpha=0.1", "partition.name=dirichlet", "train.lr=1e-3", "method.codec=xor8"]
    )
    assert (config.rounds, config.partition.clients, config.partition.alpha) == (7, 5, 0.1)
    assert config.train.lr == 0.001
    assert config.method.model_dump() | {"kappa": 0.5, "codec": "xor8"} == config.method.model_dump()


def test_json_round_trip():
    config = load_config(None, ["method.kappa=0.3", "cluster.workers=2"])
    assert load_config(json.loads(config.model_dump_json())) == config


def test_run_id_depends_on_what_can_change_results_alone():
    run_id = load_config().run_id
    assert load_config(None, ["output=elsewhere", "cluster.executor=serial", "cluster.workers=3"]).run_id == run_id
    for override in ("seed=1", "method.kappa=0.7", "partition.clients=3", "train.lr=0.2"):
        assert load_config(None, [override]).run_id != run_id


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method.kapa=1", "method.kapa: unknown key; did you mean 'kappa'?"),
        ("data.nam=digits", "data.nam: unknown key; did you mean 'name'? (allowed: data.name, data.train_samples"),
        ("sed=1", "sed: unknown key; did you mean 'seed'?"),
        ("method.kappa=2", "method.kappa: found 2, allowed: less than or equal to 1"),
        ("rounds=0", "rounds: found 0, allowed: greater than or equal to 1"),
        ("rounds=many", "rounds: found 'many', allowed: integer"),
        ("rounds.x=3", "rounds: found {'x': 3}, allowed: integer"),
        ("train=3", "train: found 3, allowed: a group of keys"),
        ("train.lr=.nan", "train.lr: found nan, allowed: a finite number"),
        ("data.name=digit", "data.name: found 'digit', allowed: digits, cifar10"),
        ("method.name=deltamsk", "method.name: found 'deltamsk', allowed: deltamask, deltamask-plus"),
        ("method.codec=fuse9", "method.codec: found 'fuse9', allowed: fuse8+png"),
        ("train.optimizer=lion", "train.optimizer: found 'lion', allowed: 'adam', 'sgd' or 'normalized-sgd'"),
        ("rounds=yes", "rounds: found True, allowed: another type than a truth value"),
        ("method.name=3", "method.name: found 3, allowed: text"),
        ("method.name=nowhere:Method", "method.name: found 'nowhere:Method', allowed: deltamask, deltamask-plus"),
        ("method.name=nowhere:Method", "or package.module:Class that can be imported (No module named 'nowhere')"),
        ("method.name=fedsim.config:Config", "allowed: a subclass of fedsim.methods.phase.Method"),
        ("method.theta_init=0.999", "method.theta_init: found 0.999, allowed: 0.01 to 0.99, by clip"),
        ("cluster.gpus_per_worker=1.5", "cluster.gpus_per_worker: found 1.5, allowed: at most 1, or a whole number"),
        ("output=ftp://host/runs", "output: found 'ftp://host/runs', allowed: a local path or an s3://"),
        ("rounds", "override: found 'rounds', allowed: key=value"),
        ("rounds=[", "rounds: found '[', allowed: a YAML value"),
    ],
)
def test_errors_name_the_field_what_was_found_and_what_is_allowed(override, message):
    with pytest.raises(ConfigError) as raised:
        load_config(None, [override])
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method.compressor.name=zip"], "method.compressor.name: found 'zip', allowed: none, qsgd"),
        (["method.compressor.rate=2"], "(allowed: method.compressor.name, method.compressor.dtype)"),
        (["method.compressor=eden"], "method.compressor: found 'eden', allowed: a group of keys"),
        (["method.compressor.name=eden", "method.compressor.rate=9"], "method.compressor.rate: found 9, allowed: less"),
        (["method.name=qsgd", "method.compressor.name=eden"], "method.compressor.name: found 'eden', allowed: 'qsgd'"),
        (["method.name=lora", "method.targets=("], "method.targets: found '(', allowed: a regular expression"),
    ],
)
def test_errors_of_nested_groups_name_the_whole_key(overrides, message):
    with pytest.raises(ConfigError) as raised:
        load_config(None, ["method.name=fedavg", *overrides])
    assert message in str(raised.value)


def test_a_compressor_is_a_group_of_its_own():
    config = load_config(None, ["method.name=eden", "method.compressor.rate=0.09"])
    assert config.method.compressor.model_dump() == {"name": "eden", "rate": 0.09}
    assert load_config(json.loads(config.model_dump_json())) == config
    assert load_config(None, ["method.name=eden"]).run_id != config.run_id


def test_home_and_path_objects_are_understood(tmp_path):
    assert load_config({"output": tmp_path}).output == str(tmp_path)
    assert load_config({"output": "~/runs"}).output == str(Path.home() / "runs")


def test_all_errors_are_told_at_once():
    with pytest.raises(ConfigError) as raised:
        load_config({"rounds": 0, "seed": -1, "method": {"kappa": 2, "clip": 1}})
    assert [line.split(":")[0] for line in str(raised.value).splitlines()] == [
        "seed",
        "rounds",
        "method.clip",
        "method.kappa",
    ]


@pytest.mark.parametrize("content", ["- 1\n- 2\n", "a: [", "\x00"])
def test_files_that_are_no_configuration(tmp_path, content):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"config: expected"):
        load_config(path)
    with pytest.raises(ConfigError, match=r"missing\.yaml"):
        load_config(tmp_path / "missing.yaml")


@given(st.floats(1e-6, 1), st.integers(1, 1000))
def test_cohorts_are_never_empty(participation, clients):
    config = Config(participation=participation, partition={"clients": clients})
    assert 1 <= config.cohort_size <= clients


def test_configurations_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load_config().rounds = 3


def test_the_content_of_files_names_a_run_and_not_their_place(tmp_path):
    def named(folder, key="data.path", *more):
        return load_config(None, [f"{key}={folder}", *more]).run_id

    for name, colour in (("one", 1), ("copy", 1), ("other", 2)):
        for index in range(4):
            path = tmp_path / name / "a" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes([colour]) * 10)
    ids = [named(tmp_path / name, "data.path", "data.name=image-folder") for name in ("one", "copy", "other")]
    assert ids[0] == ids[1] != ids[2]
    (tmp_path / "one" / "a" / "0.png").write_bytes(b"0" * 10)
    os.utime(tmp_path / "one")
    assert named(tmp_path / "one", "data.path", "data.name=image-folder") != ids[0]
    assert named("nowhere", "data.path", "data.name=image-folder") != named(
        "there", "data.path", "data.name=image-folder"
    )
    key = ("model.checkpoint", "model.name=dinov2-small")
    files = [tmp_path / name for name in ("a.safetensors", "b.safetensors", "c.safetensors")]
    for file, content in zip(files, (b"1", b"1", b"2"), strict=True):
        file.write_bytes(content * 300_000)
    ids = [named(file, *key) for file in files]
    assert ids[0] == ids[1] != ids[2]
    assert named(tmp_path, "data.path", "data.name=cifar10") == named("any", "data.path", "data.name=cifar10")


def test_the_source_of_own_code_names_a_run(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "my_edited.py"
    path.write_text("from fedsim.methods.fedavg import FedAvg\nclass Mine(FedAvg):\n    name = 'mine'\n")
    first = load_config(None, ["method.name=my_edited:Mine"])
    assert load_config(None, ["method.name=my_edited:Mine"]).run_id == first.run_id
    assert pickle.loads(pickle.dumps(first)).run_id == first.run_id
    path.write_text(path.read_text() + "    edited = True\n")
    assert load_config(None, ["method.name=my_edited:Mine"]).run_id != first.run_id
    assert pickle.loads(pickle.dumps(first)).run_id == first.run_id  # as it was when the configuration was made
