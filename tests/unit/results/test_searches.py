"""Searches as tables and figures: ranks, fronts and importances are those of the runs table."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from fedsim.callbacks import Run
from fedsim.sweeps.config import load_sweep
from fedsim.sweeps.display import LiveSweep
from fedsim.sweeps.plan import Plan
from results import figures, report_searches
from results.searches import searches

SPACE = {"train.lr": {"loguniform": [0.01, 1.0]}, "method.kappa": {"uniform": [0.1, 1.0]}}


def rows(objectives, count=24, space=SPACE, sweep="tune", **columns):
    """Trials whose accuracy follows from the learning rate alone, and whose bytes fall with kappa."""
    draws = np.random.default_rng(0)
    for index in range(count):
        lr, kappa = 10 ** draws.uniform(-2, 0), draws.uniform(0.1, 1)
        tried = {"train.lr": lr, "method.kappa": kappa}
        search = {"objectives": objectives, "point": {"seed": 0}, "space": space}
        accuracy = 0.9 - 0.2 * abs(np.log10(lr) + 1)
        yield {
            "run_id": f"run-{index}", "status": "finished", "validation_accuracy": accuracy,
            "uplink_bytes": 1000 + int(1000 * kappa) + int(1000 * accuracy),
            "sweep": sweep, "trial": json.dumps(tried), "search": json.dumps(search), **columns,
        }  # fmt: skip


def test_trials_are_ranked_by_their_objective_and_failed_ones_come_last():
    for mode in ("max", "min"):
        frame = pd.DataFrame(rows({"validation_accuracy": mode}))
        frame.loc[3, "status"] = "failed"
        [search] = searches(frame)
        ranked = search.ranked()
        expected = frame.drop(3).sort_values("validation_accuracy", ascending=mode == "min")["run_id"]
        assert ranked["run_id"].tolist() == [*expected, "run-3"]
        assert ranked["rank"].tolist() == list(range(1, 25))
    assert search.title == "tune: seed 0"


@pytest.mark.parametrize("space", [SPACE, {}])
def test_what_decides_the_objective_is_important(space):
    [search] = searches(pd.DataFrame(rows({"validation_accuracy": "max", "uplink_bytes": "min"}, 60, space)))
    table = search.importances().set_index("key")
    assert table.sum().tolist() == pytest.approx([1, 1])
    assert table.loc["train.lr", "validation_accuracy"] > 0.7
    assert table.loc["method.kappa", "uplink_bytes"] > 0.5
    assert searches(pd.DataFrame(rows({"validation_accuracy": "max"}, 3)))[0].importances().empty


def test_the_front_is_what_nothing_beats():
    frame = pd.DataFrame(rows({"validation_accuracy": "max", "uplink_bytes": "min"}))
    [search] = searches(frame)
    ranked = search.ranked()
    accuracy, cost = frame["validation_accuracy"].to_numpy(), frame["uplink_bytes"].to_numpy()
    beaten = [
        ((accuracy >= a) & (cost <= c) & ((accuracy > a) | (cost < c))).any()
        for a, c in zip(accuracy, cost, strict=True)
    ]
    assert set(ranked.loc[ranked["front"] == "yes", "run_id"]) == set(frame["run_id"][~np.array(beaten)])
    assert ranked["front"].tolist() == sorted(ranked["front"], reverse=True)
    [axes] = figures.front(search).axes
    assert [len(line.get_xdata()) for line in axes.lines] == [24, (ranked["front"] == "yes").sum()]
    with pytest.raises(ValueError, match="objectives: found validation_accuracy, allowed: at least two"):
        figures.front(searches(pd.DataFrame(rows({"validation_accuracy": "max"})))[0])


def test_slices_have_a_panel_a_key_and_choices_of_any_type():
    frame = pd.DataFrame(rows({"validation_accuracy": "max"}, 10))
    heads = [[1], [2, 3]] * 5
    tried = [json.loads(trial) | {"model.heads": head} for trial, head in zip(frame["trial"], heads, strict=True)]
    tried[4].pop("method.kappa")  # as a condition does
    frame["trial"] = list(map(json.dumps, tried))
    [search] = searches(frame)
    figure = figures.slices(search)
    shown = [axes.get_title() for axes in figure.axes if axes.axison]
    assert shown == ["train.lr", "method.kappa", "model.heads"]
    assert [len(axes.lines[0].get_xdata()) for axes in figure.axes[:3]] == [10, 9, 10]
    assert figure.axes[0].get_xscale() == "log"
    assert set(search.importances()["key"]) >= {"train.lr", "model.heads"}


def test_searches_are_told_apart_and_those_of_earlier_versions_are_one():
    frame = pd.DataFrame([*rows({"validation_accuracy": "max"}), *rows({"uplink_bytes": "min"}, sweep="other")])
    assert [(one.sweep, dict(one.objectives), len(one.trials)) for one in searches(frame)] == [
        ("tune", {"validation_accuracy": "max"}, 24),
        ("other", {"uplink_bytes": "min"}, 24),
    ]
    [old] = searches(frame[:24].drop(columns=["sweep", "search"]))
    assert (old.title, len(old.ranked())) == ("search", 24)
    assert searches(frame.assign(trial=None)) == []
    blocks = report_searches.search_blocks(searches(frame))
    assert [block.kind for block in blocks] == ["text", "table", "fold", "fold"]
    assert [block.kind for block in blocks[2].blocks] == ["table", "table", "picture"]


def test_the_end_of_a_sweep_names_the_best_trials_and_what_mattered():
    sweep = {"name": "tune", "space": SPACE, "search": {"trials": 12, "batch": 6, "confirm": [5]}}
    plan, console = Plan(load_sweep(sweep)), Console(file=io.StringIO(), width=160)
    live, accuracies = LiveSweep(console), {}
    while not plan.done:
        job = plan.next()
        accuracy = 0.9 - 0.2 * abs(np.log10(job.config.train.lr) + 1)
        accuracies[job.config.run_id] = accuracy if job.tried else 0
        row = {"run_id": job.config.run_id, "status": "finished", "validation_accuracy": accuracy, **job.columns}
        live.end(Run(job.config, "", values=job.values, reused=len(accuracies) % 2 == 0), row)
        plan.tell(job, row)
    console.print(*live.searches(), sep="\n")
    shown = console.file.getvalue()
    best = sorted(accuracies, key=accuracies.get, reverse=True)
    assert "best of 12 trials of tune" in shown
    ranked = shown[shown.index("best of") :]
    assert sorted(best[:5], key=ranked.index) == best[:5]
    assert not any(name in ranked for name in best[5:])
    assert "importance for validation accuracy: train.lr" in shown
    assert LiveSweep(console).searches() == []
