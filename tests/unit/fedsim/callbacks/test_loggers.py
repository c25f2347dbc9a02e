"""Loggers, read back by the readers of their own libraries."""

import json
import os
import struct
from dataclasses import replace

import pytest

import fedsim
from fedsim.callbacks import Run, Sweep
from fedsim.testing._experiments import small_config

pytest.importorskip("tensorboard")
pytest.importorskip("mlflow")
pytest.importorskip("wandb")

from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

from fedsim.callbacks._mlflow import MLflow
from fedsim.callbacks._tensorboard import TensorBoard

TINY = ("rounds=2", "partition.clients=2", "data.train_samples=64", "data.test_samples=40")


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A run that all three loggers are told of, and its folder."""
    folder = tmp_path_factory.mktemp("logged")
    keys = [f"log.tensorboard={folder}/boards", f"log.mlflow=sqlite:///{folder}/mlflow.db", "log.wandb=masks"]
    before, environment = os.getcwd(), dict(os.environ)
    os.environ |= {"WANDB_MODE": "offline", "WANDB_DIR": str(folder), "MLFLOW_LOGGING_LEVEL": "WARNING"}
    os.chdir(folder)  # where MLflow puts artifacts without a server
    try:
        result = fedsim.run(small_config(folder / "runs", *TINY, *keys))
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(environment)
    return result, folder


def board(path):
    events = EventAccumulator(str(path), size_guidance={"scalars": 0})
    events.Reload()
    return events


def scalars(events, name):
    return {event.step: event.value for event in events.Scalars(name)}


def test_tensorboard_has_rounds_hyperparameters_and_the_figure(logged):
    result, folder = logged
    events = board(folder / "boards" / result.row["run_id"])
    rounds = result.load().rounds.set_index("round")
    assert scalars(events, "accuracy") == pytest.approx(rounds["accuracy"].to_dict())
    assert scalars(events, "uplink_bytes") == pytest.approx(rounds["uplink_bytes"].to_dict())
    assert events.Tags()["images"] == ["accuracy and bpp"]
    assert scalars(events, "run/final_accuracy") == {2: pytest.approx(result.row["final_accuracy"])}
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"method.kappa" in content
    assert b"log." not in content


def test_mlflow_has_rounds_parameters_and_the_report(logged):
    result, folder = logged
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    [found] = client.search_runs([client.get_experiment_by_name("fedsim").experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["method.name"] == "deltamask"
    assert "log.wandb" not in found.data.params
    rounds = result.load().rounds.set_index("round")
    history = client.get_metric_history(found.info.run_id, "accuracy")
    assert {metric.step: metric.value for metric in history} == pytest.approx(rounds["accuracy"].to_dict())
    names = {item.path for item in client.list_artifacts(found.info.run_id)}
    assert names == {"run.json", "configuration.yaml", "report"}
    assert "report/index.html" in {item.path for item in client.list_artifacts(found.info.run_id, "report")}


def test_weights_and_biases_has_rounds_configuration_and_the_report(logged):
    result, folder = logged
    [path] = (folder / "wandb").glob("offline-run-*/*.wandb")
    rows, config, files, group = [], {}, [], None
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            items = record.history.item
            rows.append({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items})
        elif kind == "run":
            config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            group = record.run.run_group
        elif kind == "artifact":
            files += [entry.path for entry in record.artifact.manifest.contents]
    rounds = result.load().rounds
    accuracies = [row["accuracy"] for row in rows if "accuracy" in row]
    assert accuracies == pytest.approx(rounds["accuracy"].tolist())
    assert config["method"]["name"] == "deltamask"
    assert "index.html" in files
    assert group == ""


def records(path):
    """The records of an offline run: protocol buffers in the log format of LevelDB, after a head of 7 bytes."""
    data, position, whole = path.read_bytes(), 7, b""
    while position < len(data):
        left = 32768 - position % 32768
        _, length, kind = struct.unpack_from("<IHB", data, position) if left >= 7 else (0, 0, 0)
        if kind == 0:  # the rest of a block
            position += left
            continue
        whole += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def test_runs_of_a_sweep_are_side_by_side_and_one_that_goes_on_has_each_round_once(logged, tmp_path):
    result, _ = logged
    rows = result.load().rounds.to_dict("records")
    sweep = Sweep("night", 2, str(tmp_path))
    runs = [Run(small_config(tmp_path, *TINY, f"seed={seed}"), result.path, sweep=sweep) for seed in (0, 1)]
    for callback in (TensorBoard(f"{tmp_path}/boards"), MLflow(f"sqlite:///{tmp_path}/mlflow.db")):
        for run in runs:
            callback.start(run)
        for run in reversed(runs):
            callback.round(run, rows[0])
            callback.round(run, rows[1])
        for run in runs:  # another attempt goes on
            callback.start(replace(run, stored=rows[:2]))
            callback.round(run, rows[2])
    expected = {row["round"]: pytest.approx(row["accuracy"]) for row in rows}
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("night").experiment_id])
    assert {one.data.tags["fedsim.run_id"] for one in found} == {run.config.run_id for run in runs}
    for run, one in zip(runs, sorted(found, key=lambda one: one.data.params["seed"]), strict=True):
        history = client.get_metric_history(one.info.run_id, "accuracy")
        assert [(metric.step, metric.value) for metric in history] == [(step, expected[step]) for step in (0, 1, 2)]
        events = board(tmp_path / "boards" / "night" / run.config.run_id)
        assert [(event.step, event.value) for event in events.Scalars("accuracy")] == list(expected.items())
