"""Central evaluation: when, and of which models."""

import pytest

import fedsim
import results
from fedsim.testing import run_rounds
from results import tables
from tests.callbacks import Told

MEASURES = ["accuracy", "loss", "validation_accuracy", "validation_loss"]


def test_rounds_without_evaluation_change_no_other_number(small_config):
    keys = ["rounds=5", "partition.clients=3"]
    every, second = (run_rounds(small_config(*keys, *more))[2] for more in ([], ["evaluate.every=2"]))
    for index, (expected, found) in enumerate(zip(every, second, strict=True)):
        due = index in (0, 2, 4, 5)
        assert [name in found.round for name in MEASURES] == [due] * len(MEASURES)
        compared = ["state_digest", "uplink_bytes", *(MEASURES if due else ())]
        assert [found.round[name] for name in compared] == [expected.round[name] for name in compared]


def test_only_the_models_that_are_asked_for_are_evaluated(small_config):
    also = {"expected": "accuracy_expected", "sampled": "accuracy_sampled"}
    for asked in ([], ["sampled"], ["expected", "sampled"]):
        *_, last = run_rounds(small_config("rounds=1", f"evaluate.also=[{', '.join(asked)}]"))[2]
        assert {name for name, column in also.items() if column in last.round} == set(asked)
    dense = run_rounds(small_config("rounds=1", "method.name=fedavg", "evaluate.also=[sampled]"))[2]
    assert "accuracy_sampled" not in dense[1].round  # it has no other model


def test_an_interrupted_run_keeps_its_last_evaluation(small_config, tmp_path):
    def stop(row):
        if row["round"] == 3:
            raise KeyboardInterrupt

    config = small_config("rounds=6", "evaluate.every=2", f"output={tmp_path}", "data.validation=0")
    with pytest.raises(KeyboardInterrupt):
        fedsim.run(config, callbacks=[Told(stop)])
    loaded = results.load(tmp_path)
    accuracies = loaded.rounds["accuracy"]
    assert accuracies.isna().tolist() == [False, True, False, True]
    run = loaded.runs.iloc[0]
    assert (run["status"], run["final_accuracy"]) == ("interrupted", accuracies[2])
    assert fedsim.resume(tmp_path / run["run_id"]).row["final_accuracy"] > 0
    budget = tables.accuracy_at_bytes(results.load(tmp_path), [1e9])
    assert budget["accuracy at 1000 MB"].notna().all()


def test_a_run_in_bf16_is_close_to_one_in_float32(small_config):
    exact, rounded = (
        run_rounds(small_config("rounds=1", f"train.precision={precision}"))[2] for precision in ("float32", "bf16")
    )
    assert exact[0].round["state_digest"] == rounded[0].round["state_digest"]  # the head is fitted in float32
    assert exact[1].round["state_digest"] != rounded[1].round["state_digest"]
    assert abs(exact[1].round["loss"] - rounded[1].round["loss"]) < 0.1
