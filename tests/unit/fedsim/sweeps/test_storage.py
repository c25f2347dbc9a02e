"""The copy of a search that a storage of Optuna keeps: the same trials, and never what a sweep goes by."""

import json

import optuna
import pytest

from fedsim import ConfigError
from fedsim.sweeps.config import load_sweep
from fedsim.sweeps.plan import Plan
from fedsim.sweeps.storage import open_storage

SPACE = {
    "method.name": {"grid": ["deltamask", "fedavg"]},
    "train.lr": {"loguniform": [0.01, 1.0]},
    "method.kappa": {"choice": [0.5, 1.0], "when": {"method.name": "deltamask"}},
}


def sweep(storage=None, **search):
    search = {"trials": 5, "batch": 2, "storage": storage, **search}
    return load_sweep({"name": "tune", "base": {"rounds": 3}, "space": SPACE, "search": search})


def run(plan, most=100):
    """Up to ``most`` runs, each third of which fails; their names in order."""
    names = []
    while not plan.done and len(names) < most:
        job = plan.next()
        names.append(job.config.run_id)
        plan.tell(job, None if len(names) % 3 == 0 else {"validation_accuracy": job.config.train.lr})
    return names


@pytest.fixture(params=["sqlite:///{}/study.db", "journal:{}/study.log"])
def place(request, tmp_path):
    return request.param.format(tmp_path)


def studies(place):
    storage = open_storage(place)
    names = optuna.get_all_study_names(storage)
    return {name: optuna.load_study(study_name=name, storage=storage) for name in names}


def test_a_storage_has_each_search_once_however_often_it_was_interrupted(place):
    alone = run(Plan(sweep()))
    assert run(Plan(sweep(place), open_storage(place)), most=4) == alone[:4]
    found = studies(place)
    assert {trial.state.name for study in found.values() for trial in study.trials} >= {"RUNNING", "COMPLETE"}
    assert run(Plan(sweep(place), open_storage(place))) == alone
    found = studies(place)
    assert set(found) == {"tune: method.name=deltamask", "tune: method.name=fedavg"}
    for study in found.values():
        states = [trial.state.name for trial in study.trials]
        assert (len(states), set(states)) == (5, {"COMPLETE", "FAIL"})
        complete = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
        assert all(trial.value == trial.params["train.lr"] for trial in complete)
        assert study.best_value == max(trial.params["train.lr"] for trial in complete)
        assert study.metric_names == ["validation_accuracy"]


def test_studies_of_others_are_left_alone(place):
    name = "tune: method.name=fedavg"
    optuna.create_study(storage=open_storage(place), study_name=name).add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(ConfigError, match=rf"search.storage: found a study '{name}' that no sweep has written"):
        Plan(sweep(place), open_storage(place))
    assert len(studies(place)[name].trials) == 1


def test_a_storage_that_fails_later_does_not_end_the_sweep(tmp_path):
    alone = run(Plan(sweep()))
    place = tmp_path / "folder" / "study.log"
    place.parent.mkdir()
    plan = Plan(sweep(f"journal:{place}"), open_storage(f"journal:{place}"))
    place.unlink()
    place.parent.rmdir()
    with pytest.warns(UserWarning, match=r"search.storage: the study 'tune: method.name=\w+' ends here"):
        assert run(plan) == alone


@pytest.mark.parametrize("kind", ["sqlite:///{}", "journal:{}"])
def test_places_that_cannot_be_opened_are_named(kind, tmp_path):
    place = kind.format(tmp_path / "none" / "study")
    with pytest.raises(ConfigError, match=r"search.storage: found .*in an existing folder"):
        open_storage(place)
    (tmp_path / "other").write_text("something else\n" * 100)
    with pytest.raises(ConfigError, match=r"search.storage: found .*a file of Optuna or a new one"):
        open_storage(kind.format(tmp_path / "other"))
    for wrong in ("journal:", "mysql://host/study", "study.db"):
        with pytest.raises(ConfigError, match=r"search.storage: found .*allowed: sqlite:///PATH or journal:PATH"):
            sweep(wrong)


def test_runs_know_their_sweep_and_what_was_searched():
    plan = Plan(sweep(confirm=[7]))
    jobs = []
    while not plan.done:
        jobs.append(plan.next())
        plan.tell(jobs[-1], {"validation_accuracy": jobs[-1].config.train.lr})
    assert {job.columns["sweep"] for job in jobs} == {"tune"}
    tried = [job for job in jobs if job.tried]
    assert [json.loads(job.columns["trial"]) for job in tried] == [job.tried for job in tried]
    search = json.loads(tried[0].columns["search"])
    assert search["objectives"] == {"validation_accuracy": "max"}
    assert search["point"] == {"method.name": tried[0].config.method.name}
    assert search["space"]["train.lr"] == {"loguniform": [0.01, 1.0]}
    assert {(job.columns["trial"], job.columns["search"]) for job in jobs if not job.tried} == {(None, None)}


def test_a_sweep_is_named_by_its_key_or_its_file(tmp_path):
    file = tmp_path / "kappa.yaml"
    file.write_text("space: {seed: {grid: [0, 1]}}")
    assert load_sweep(file).name == "kappa"
    assert load_sweep(file, smoke=True).name == "kappa-smoke"
    assert load_sweep(file, ["name=other"]).name == "other"
    assert load_sweep({"space": {"seed": {"grid": [0]}}}).name == "sweep"
