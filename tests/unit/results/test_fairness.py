"""How clients fare, and classes: tables, the figure and the page are those of the rows."""

import numpy as np
import pandas as pd
import pytest

import results
from results import Results, figures, report, tables
from results.fairness import over_clients

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two methods, two seeds each, of 25 clients of which each round has 10; ``fedavg`` has no models of its own."""
    folder = tmp_path_factory.mktemp("runs")
    for method in ("deltamask", "fedavg"):
        for seed in (0, 1):
            store = results.RunStore(str(folder), f"{method}-s{seed}")
            row = {"run_id": store.run_id, "method": method, "dataset": "digits", "seed": seed, "status": "finished"}
            store.write_run(row | {"final_accuracy": 0.5, "uplink_bytes": 5, "downlink_bytes": 5})
            for index in range(4):
                base = {"run_id": store.run_id, "round": index, "uplink_bytes": 5, "downlink_bytes": 5}
                store.append("rounds", index, index, [base | {"accuracy": 0.5, "uplink_bpp": 0.1}])
                store.append(
                    "clients", index, index, [_client(base, method, index, c) for c in RNG.permutation(25)[:10]]
                )
            classes = [{"run_id": store.run_id, "class": k, "class_name": f"class {k}"} for k in range(3)]
            counts = [{"samples": 4, "correct": k + seed, "accuracy": (k + seed) / 4} for k in range(3)]
            store.append("classes", 3, 3, [one | count for one, count in zip(classes, counts, strict=True)])
    return folder


def _client(base, method, index, client):
    row = {"run_id": base["run_id"], "round": index, "client": int(client), "payload_bytes": 5, "samples": 9}
    if not index:
        return row
    row |= {"client_accuracy": RNG.random(), "held_out_samples": 3}
    return row | ({"personal_accuracy": RNG.random()} if method == "deltamask" else {})


def latest(loaded, run_id, measure):
    """By a loop over the rows."""
    found = {}
    for row in loaded.clients.query("run_id == @run_id").to_dict("records"):
        if row[measure] == row[measure]:
            found[row["client"]] = row[measure]
    return np.array(list(found.values()))


def test_the_worst_tenth_is_at_least_one_client():
    assert over_clients([0.5, 0.25, 1.0]) == {"mean": 1.75 / 3, "worst_tenth": 0.25, "spread": np.std([0.25, 0.5, 1])}
    values = RNG.random(39)
    assert over_clients(values)["worst_tenth"] == pytest.approx(np.sort(values)[:3].mean())


def test_a_group_is_the_mean_of_its_runs_by_the_latest_evaluation_of_each_client(folder):
    loaded = results.load(folder)
    table = tables.client_accuracies(loaded).set_index("method")
    for method, measure in (("deltamask", "client"), ("deltamask", "personal"), ("fedavg", "client")):
        runs = [latest(loaded, f"{method}-s{seed}", f"{measure}_accuracy") for seed in (0, 1)]
        row = table.loc[method]
        assert row[f"{measure}_accuracy_mean"] == pytest.approx(np.mean([run.mean() for run in runs]))
        assert row[f"{measure}_accuracy_spread"] == pytest.approx(np.mean([run.std() for run in runs]))
        assert row["evaluated_clients"] == np.mean([len(run) for run in runs])
    assert pd.isna(table.loc["fedavg", "personal_accuracy_mean"])


def test_the_figure_has_a_step_at_each_client(folder):
    loaded = results.load(folder)
    whole, own = figures.client_accuracies(loaded).axes
    assert [axes.get_title() for axes in (whole, own)] == ["the global model", "personalised models"]
    assert [line.get_label() for line in whole.lines] == ["deltamask", "fedavg"]
    assert [line.get_label() for line in own.lines] == ["deltamask"]
    runs = [latest(loaded, f"deltamask-s{seed}", "personal_accuracy") for seed in (0, 1)]
    x, y = own.lines[0].get_data()
    assert x[1:].tolist() == np.sort(np.concatenate(runs)).tolist()
    assert y[-1] == 1


def test_classes_are_a_column_a_group(folder):
    table = tables.class_accuracies(results.load(folder))
    assert table["class_name"].tolist() == ["class 0", "class 1", "class 2"]
    assert table["accuracy, fedavg"].tolist() == [0.125, 0.375, 0.625]


def test_the_page_shows_them_where_they_are_known(folder, tmp_path):
    loaded = results.load(folder)
    html = report.write(loaded, tmp_path).read_text()
    assert (tmp_path / "client_accuracies.png").exists()
    assert "client accuracy worst tenth" in html
    assert "accuracy, deltamask" in html
    clients = loaded.clients.drop(columns=["client_accuracy", "personal_accuracy"])
    without = Results(loaded.runs, loaded.rounds, clients)
    html = report.write(without, tmp_path / "without").read_text()
    assert not (tmp_path / "without" / "client_accuracies.png").exists()
    assert "worst tenth" not in html
    assert "Accuracy by class" not in html


def test_runs_without_classes_have_an_empty_table(folder, tmp_path):
    store = results.RunStore(str(tmp_path), "older")
    store.write_run({"run_id": "older", "status": "finished"})
    assert results.load(tmp_path).classes.empty
    some = results.load(folder, tables=("classes",), columns=["accuracy"])
    assert list(some.classes) == ["run_id", "class", "accuracy"]
    assert some.rounds.empty
