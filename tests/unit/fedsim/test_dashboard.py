"""The page of the dashboard, without a browser: its tables, charts and texts are those of the stored runs."""

import json

import pytest
from streamlit.testing.v1 import AppTest

import results
from fedsim import ConfigError, dashboard


def script(*paths):
    from fedsim.dashboard.page import page

    page(paths)


def shown(*paths):
    app = AppTest.from_function(script, args=tuple(map(str, paths)), default_timeout=60).run()
    assert not app.exception, app.exception
    return app


def texts(elements):
    return " ".join(str(one.value) for one in elements)


def numbers(app):
    return {one.label: one.value for one in app.metric}


@pytest.fixture
def runs(tmp_path):
    for index, status in enumerate(("finished", "running", "failed", "finished")):
        store = results.RunStore(str(tmp_path), f"run-{index}")
        row = {"run_id": store.run_id, "status": status, "method": "deltamask", "dataset": "digits", "seed": index}
        row |= {"rounds": 4, "config": json.dumps({"seed": index, "train": {"lr": 0.1 * index}}), "clients": 2}
        if status == "finished":
            trial, search = {"train.lr": 0.1 * index}, {"objectives": {"validation_accuracy": "max"}, "point": {}}
            row |= {"sweep": "tune", "trial": json.dumps(trial), "search": json.dumps(search)}
            row |= {"final_accuracy": 0.5, "validation_accuracy": 0.6 + index / 10, "uplink_bytes": 2**20}
        if status == "failed":
            row |= {"error": "ClientError: out of memory", "warnings": "2 images cannot be decoded"}
        store.write_run(row)
        for number in range(3):
            base = {"run_id": store.run_id, "round": number, "accuracy": 0.1 * number, "uplink_bpp": 0.1}
            base |= {"downlink_bpp": 1.0, "round_seconds": 2.0, "uplink_bytes": 100, "downlink_bytes": 200}
            store.append("rounds", number, number, [base])
    return tmp_path


def test_runs_rounds_searches_and_failures_are_shown(runs):
    app = shown(runs)
    assert numbers(app) | {"Sent, both directions": ""} == {
        "Runs": "4", "Running": "1", "Finished": "2", "Failed": "1",
        "Best validation accuracy": "90.0%", "Sent, both directions": "",
    }  # fmt: skip
    table, ranked = (one.value for one in app.dataframe)
    assert set(table["run_id"]) == {"run-0", "run-1", "run-2", "run-3"}
    running = table.set_index("run_id").loc["run-1"]
    assert (running["progress"], running["accuracy"]) == (0.5, pytest.approx(0.2))
    assert running["uplink_bytes"] == pytest.approx(300 / 2**20)
    assert ranked["run_id"].tolist() == ["run-3", "run-0"]
    assert texts(app.code) == "ClientError: out of memory"
    assert "2 images cannot be decoded" in texts(app.warning)
    app.multiselect(key="status").select("failed").run()
    assert app.dataframe[0].value["run_id"].tolist() == ["run-2"]
    app.multiselect(key="status").unselect("failed").run()
    app.text_input(key="text").set_value('"lr": 0.30').run()
    assert app.dataframe[0].value["run_id"].tolist() == ["run-3"]


def test_the_page_follows_what_is_written(runs):
    app = shown(runs)
    results.RunStore(str(runs), "run-1").end("finished", None)
    results.RunStore(str(runs), "run-9").write_run({"run_id": "run-9", "status": "failed", "error": "none"})
    app.run()
    assert not app.exception
    assert [numbers(app)[name] for name in ("Runs", "Running", "Finished", "Failed")] == ["5", "0", "3", "2"]


def test_an_empty_folder_says_what_to_run(tmp_path):
    assert f"fedsim run output={tmp_path / 'none'}" in texts(shown(tmp_path / "none").info)
    assert "cannot read" in texts(shown("ftp://host/runs").error)


def test_serving_refuses_what_cannot_be(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="--port: found 0, allowed: 1 to 65535"):
        dashboard.serve([str(tmp_path)], port=0)
    with pytest.raises(results.LocationError, match="ftp"):
        dashboard.serve(["ftp://host/runs"])
    monkeypatch.setattr(dashboard.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install "deltamask\[dashboard\]"'):
        dashboard.serve([str(tmp_path)])
