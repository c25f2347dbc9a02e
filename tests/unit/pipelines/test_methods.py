"""The comparison of methods: its sweeps, the names of its rows, and totals that follow from single uploads."""

from pathlib import Path

import pandas as pd
import pytest

import fedsim
from fedsim.sweeps.config import load_sweep
from fedsim.sweeps.plan import Plan
from pipelines.benchmarks.methods import __main__ as comparison
from pipelines.benchmarks.methods.rows import SWEEPS, entries, label

SWEEP_FILES = sorted(SWEEPS.glob("*.yaml"))
COMMITTED = sorted((Path(__file__).parents[3] / "results" / "benchmarks" / "methods").glob("*-clients.parquet"))


@pytest.mark.parametrize("path", SWEEP_FILES, ids=lambda path: path.stem)
def test_every_method_has_the_same_budget(path):
    sweep = load_sweep(path, ["data.path=somewhere"])
    plan = Plan(sweep)
    searched = [key for key, dimension in sweep.space.items() if dimension.grid is None]
    if searched:
        assert sweep.search.trials == 5
        assert comparison.TUNING_SEED not in sweep.search.confirm
        assert len(sweep.search.confirm) == 3
        assert list(sweep.search.objectives) == ["validation_accuracy"]
    else:
        assert comparison.TUNING_SEED not in sweep.space["seed"].grid
    assert sweep.base["data"]["validation"] > 0
    assert sweep.space["partition.alpha"].grid == [10, 0.1]
    assert plan.next().config.partition.clients == 10


def test_rows_have_names_of_their_own():
    names = []
    for entry in entries():
        config = fedsim.load_config({"method": entry}).model_dump(mode="json")
        names.append(label(config | {"rounds": 10}))
    assert len(set(names)) == len(names)
    assert {"fedavg", "eden, rate 0.09", "lora, rank 1, eden rate 1", "deltamask, range"} <= set(names)
    fedavg = fedsim.load_config({"rounds": 1, "method": {"name": "fedavg"}}).model_dump(mode="json")
    assert label(fedavg) == "fedavg, one round"
    with pytest.raises(ValueError, match="allowed: one of the sweep files"):
        label(fedavg | {"method": {"name": "drive"}})


def test_runs_become_tables_whose_totals_are_those_of_their_uploads(tmp_path):
    for seed in (0, 1, 2):
        for alpha in (10, 0.1):
            for method in ({"name": "ridge"}, {"name": "fedavg"}):
                tree = {
                    "seed": seed,
                    "rounds": 2,
                    "output": str(tmp_path / "runs"),
                    "data": {"train_samples": 200, "test_samples": 100, "validation": 0.2},
                    "partition": {"name": "dirichlet", "clients": 3, "alpha": alpha},
                    "model": {"masked_blocks": 1},
                    "head": {"name": "ridge"},
                    "method": method,
                    "cluster": {"executor": "serial"},
                }
                fedsim.run(tree)
    shown = comparison.confirmed(comparison.collect(str(tmp_path / "runs")), "tiny-vit")
    assert set(shown.runs["seed"]) == {1, 2}
    check_totals(shown.runs, shown.rounds, shown.clients)
    text = comparison.markdown(shown)
    assert text.count("| fedavg |") == text.count("| ridge |") == 2
    assert "± " in text
    table = comparison.summary(shown.runs)
    assert table["runs"].tolist() == [2] * 4
    assert table.groupby("alpha")["front"].any().all()
    assert len(comparison.picture(shown).axes) == 2


@pytest.mark.skipif(not COMMITTED, reason="no results of the comparison are committed")
@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_totals_of_committed_rows_are_those_of_their_uploads(path):
    stem = path.stem.removesuffix("-clients")
    runs, rounds = (pd.read_parquet(path.with_name(f"{stem}{part}.parquet")) for part in ("", "-rounds"))
    check_totals(runs, rounds, pd.read_parquet(path))
    assert not runs["config"].str.contains('": "/', regex=False).any()  # no path of the machine
    shown = comparison.results.Results(runs, rounds, pd.read_parquet(path))
    assert comparison.markdown(shown) == path.with_name(f"{stem}.md").read_text()


def check_totals(runs, rounds, clients):
    """Totals of rounds and runs are sums over the clients' rows."""
    for column, of_client in (("uplink_bytes", "payload_bytes"), ("downlink_bytes", "downlink_bytes")):
        sums = clients.groupby(["run_id", "round"])[of_client].sum()
        assert rounds.set_index(["run_id", "round"])[column].sort_index().equals(sums.rename(column).sort_index())
        totals = clients.groupby("run_id")[of_client].sum().rename(column)
        assert runs.set_index("run_id")[column].sort_index().equals(totals.sort_index())
