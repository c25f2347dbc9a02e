"""Tables of runs: groups, the main table, the Pareto front, bytes to a target, and what they look like as text."""

import json

import pandas as pd
import pytest

from results import Results, groups, tables


def run(method, seed, accuracy, *, dataset="digits", lr=0.1, uplink=1000, status="finished"):
    config = json.dumps({"seed": seed, "method": {"name": method}, "train": {"lr": lr}, "cluster": {"workers": seed}})
    return {
        "run_id": f"{method}-{dataset}-{lr}-{seed}",
        "status": status,
        "method": method,
        "dataset": dataset,
        "seed": seed,
        "final_accuracy": accuracy,
        "uplink_bpp": uplink / 1e4,
        "uplink_bytes": uplink,
        "downlink_bytes": 5000,
        "config": config,
    }


RUNS = pd.DataFrame(
    [
        run("deltamask", 0, 0.5),
        run("deltamask", 1, 0.6),
        run("deltamask", 2, 0.9, status="failed"),
        run("fedavg", 0, 0.7, lr=0.01, uplink=9000),
        run("fedavg", 0, 0.8, lr=0.02, uplink=9000),
        run("fedavg", 0, 0.4, lr=0.02, uplink=9000, dataset="other"),
    ]
)


def test_several_keys_of_the_configuration_may_set_groups_apart():
    rows = []
    for lr, head in ((0.1, "fit"), (0.1, "random"), (0.2, "fit")):
        row = run("deltamask", 0, 0.5, lr=lr)
        rows.append(row | {"config": json.dumps(json.loads(row["config"]) | {"head": {"name": head}})})
    table = tables.groups(pd.DataFrame(rows))
    assert table.attrs["keys"] == ["method", "train.lr", "head.name"]
    assert len(table) == 3


def test_runs_are_grouped_by_what_varies_but_the_seed():
    table = tables.groups(RUNS)
    assert table.attrs == {"unfinished": 1, "keys": ["method", "dataset", "train.lr"]}
    first = table.iloc[0]
    assert (first["method"], first["runs"], first["accuracy"]) == ("deltamask", 2, pytest.approx(0.55))
    assert first["accuracy_std"] == pytest.approx(0.1 / 2**0.5)
    assert first["total_bytes"] == 6000
    assert table["runs"].tolist() == [2, 1, 1, 1]
    assert tables.groups(RUNS, by=["method"])["runs"].tolist() == [2, 3]
    assert tables.groups(RUNS, by=[])["runs"].tolist() == [5]
    for arguments, message in (({"by": ["lr"]}, "by: found 'lr'"), ({"accuracy": "x"}, "accuracy: found 'x'")):
        with pytest.raises(ValueError, match=message):
            tables.groups(RUNS, **arguments)


def test_main_table_is_methods_by_datasets():
    table = tables.main(RUNS)
    assert table.columns.tolist() == ["method", "digits", "other", "uplink bpp"]
    assert table.to_numpy().tolist() == [
        ["deltamask", "55.0 ± 7.1", "", 0.1],
        ["fedavg, lr 0.01", "70.0", "", 0.9],
        ["fedavg, lr 0.02", "80.0", "40.0", 0.9],
    ]
    alone = tables.main(RUNS[RUNS["dataset"] == "digits"])
    assert alone.columns.tolist() == ["method", "digits", "uplink bpp"]
    with pytest.raises(ValueError, match="across: found 'seed', allowed: method, dataset"):
        tables.main(RUNS, across=["seed"])


def test_pareto_front_keeps_what_nothing_beats():
    table = pd.DataFrame({"accuracy": [0.5, 0.6, 0.6, 0.6, 0.4, 0.9, None], "total_bytes": [10, 20, 20, 30, 15, 90, 1]})
    front = tables.pareto_front(table)
    assert front.to_numpy().tolist() == [[0.5, 10], [0.6, 20], [0.6, 20], [0.9, 90]]
    with pytest.raises(ValueError, match="cost: found 'bytes'"):
        tables.pareto_front(table, cost="bytes")


def test_bytes_to_a_target_count_from_the_first_round():
    rounds = pd.DataFrame(
        {
            "run_id": ["deltamask-digits-0.1-0"] * 4 + ["deltamask-digits-0.1-1"] * 2,
            "round": [0, 1, 2, 3, 0, 1],
            "accuracy": [0.1, 0.5, 0.3, 0.502, 0.2, 0.3],
            "uplink_bytes": [5, 10, 10, 10, 5, 10],
            "downlink_bytes": [100] * 6,
        }
    )
    results = Results(RUNS.iloc[:3].assign(best_accuracy=[0.502, 0.3, None]), rounds, pd.DataFrame())
    table = tables.bytes_to_target(results, 0.5)
    assert table["run_id"].str[-1].tolist() == ["0", "1"]
    assert table["bytes"].tolist() == [15, pd.NA]
    assert table.attrs["unfinished"] == 1
    assert tables.bytes_to_target(results, direction="both")["round"].tolist() == [1, 1]  # 0.5 is within 1 % of 0.502
    assert tables.bytes_to_target(results, within=0, direction="both")["bytes"].tolist() == [435, 215]
    for arguments, message in (({"within": 1.0}, "within: found 1.0"), ({"direction": "up"}, "direction: found 'up'")):
        with pytest.raises(ValueError, match=message):
            tables.bytes_to_target(results, **arguments)


def test_accuracy_at_a_budget_is_that_of_the_best_round_it_pays_for_by_validation():
    rounds = pd.DataFrame(
        {
            "run_id": ["a"] * 4 + ["b"] * 3,
            "round": [0, 1, 2, 3, 0, 1, 2],
            "accuracy": [0.1, 0.6, 0.5, 0.4, 0.2, 0.3, 0.25],
            "validation_accuracy": [0.1, 0.3, 0.4, 0.4, None, None, None],
            "validation_loss": [3.0, 1.0, 1.0, 1.1, None, None, None],
            "uplink_bytes": [20, 20, 20, 20, 10, 10, 10],
            "downlink_bytes": [0, 20, 20, 20, 0, 10, 1000],
        }
    )
    runs = pd.DataFrame({"run_id": ["a", "b"], "method": ["x", "y"], "clients": [2, 10], "seed": [0, 0]})
    results = Results(runs, rounds, pd.DataFrame())
    table = tables.accuracy_at_bytes(results, [2e-6, 30, 50, 1e6]).set_index("run_id")
    assert table.columns.tolist()[-1] == "accuracy at 1 MB"
    values = [[None if value != value else value for value in row] for row in table.iloc[:, -4:].to_numpy().tolist()]
    assert values == [[None, 0.6, 0.5, 0.5], [None, 0.3, 0.3, 0.25]]
    uplink = tables.accuracy_at_bytes(results, [30], direction="uplink")
    assert uplink.iloc[:, -1].tolist() == [0.5, 0.25]


def test_tables_as_text(tmp_path):
    table = tables.groups(RUNS.assign(method=RUNS["method"] + "_|&"))
    markdown = tables.to_markdown(table)
    assert markdown.splitlines()[1].startswith("| --- | --- | ---: | ---: |")
    assert "| deltamask_\\|& | digits | 0.1 | 2 | 0.550 | 0.071 | 0.1000 | 1,000 | 5,000 | 6,000 |" in markdown
    assert markdown.endswith("\n1 run left out: not finished.\n")
    latex = tables.to_latex(tables.main(RUNS))
    assert r"deltamask & 55.0 $\pm$ 7.1 &  & 0.1000 \\" in latex
    assert r"\toprule" in latex
    path = tables.save(table, tmp_path / "new" / "table.csv")
    assert pd.read_csv(path)["accuracy"].tolist() == table["accuracy"].tolist()
    assert tables.save(table, tmp_path / "table.md").read_text() == markdown
    with pytest.raises(ValueError, match=r"path: found the suffix '.doc', allowed: .md, .tex, .csv"):
        tables.save(table, tmp_path / "table.doc")


@pytest.mark.parametrize("config", ["{half", "[1]", '{"a":' * 9999 + "1" + "}" * 9999])
def test_broken_configurations_are_named(config):
    with pytest.raises(ValueError, match=r"config: found '.*', allowed: a JSON object"):
        groups.settings(pd.DataFrame({"config": [config]}))
