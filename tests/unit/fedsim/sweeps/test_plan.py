"""What a sweep runs: its space, its errors, and that neither depends on the order in which runs end."""

import random
import re
from pathlib import Path

import pytest
import yaml

from fedsim import ConfigError
from fedsim.sweeps.config import load_sweep
from fedsim.sweeps.plan import Plan

GRID = {"method.name": {"grid": ["deltamask", "fedavg"]}, "seed": {"grid": [0, 1]}}
SEARCH = {
    "train.lr": {"loguniform": [0.01, 1.0]},
    "method.kappa": {"uniform": [0.1, 1], "when": {"method.name": "deltamask"}},
}


def plan(space, **sweep):
    return Plan(load_sweep({"base": {"rounds": 3}, "space": space, **sweep}))


def run_all(plan, order=0):
    """Take every job; end the jobs that are under way in some order."""
    shuffle, under_way, jobs = random.Random(order), [], []
    while not plan.done:
        while (job := plan.next()) is not None:
            under_way.append(job)
        job = under_way.pop(shuffle.randrange(len(under_way)))
        jobs.append(job)
        plan.tell(
            job, {"validation_accuracy": 1 / (1 + abs(job.config.train.lr - 0.2)), "uplink_bytes": job.config.seed}
        )
    return jobs


def test_a_grid_is_every_combination_once():
    jobs = run_all(plan(GRID))
    assert sorted((job.config.method.name, job.config.seed) for job in jobs) == [
        (method, seed) for method in ("deltamask", "fedavg") for seed in (0, 1)
    ]
    assert all(job.config.rounds == 3 for job in jobs)


def test_conditions_select_grids_and_ranges():
    space = {
        "method.name": {"grid": ["deltamask", "fedavg"]},
        "method.kappa": {"grid": [0.5, 1.0], "when": {"method.name": ["deltamask", "deltamask-plus"]}},
        "train.lr": {"grid": [0.003], "when": {"method.name": "fedavg"}},
        "method.clip": {"choice": [0.01, 0.02], "when": {"method.kappa": 0.5}},
    }
    jobs = run_all(plan(space, search={"trials": 1}))
    assert [sorted(job.values) for job in sorted(jobs, key=lambda job: repr(job.values))] == [
        ["method.clip", "method.kappa", "method.name"],
        ["method.kappa", "method.name"],
        ["method.name", "train.lr"],
    ]


def test_conditions_see_defaults_and_whole_groups_may_vary():
    space = {
        "method": {"grid": [{"name": "deltamask", "kappa": 0.5}, {"name": "fedpm"}]},
        "train.lr": {"grid": [0.1, 0.3], "when": {"partition.name": "iid", "method.name": "fedpm"}},
    }
    assert len(run_all(plan(space))) == 3


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_a_search_has_the_same_jobs_whatever_ends_first(sampler):
    search = {"trials": 7, "batch": 3, "sampler": sampler, "objectives": {"validation_accuracy": "max"}}
    runs = [{job.config.run_id for job in run_all(plan(GRID | SEARCH, search=search), order)} for order in range(3)]
    assert runs[0] == runs[1] == runs[2]
    assert len(runs[0]) == 4 * 7
    other = run_all(plan(GRID | SEARCH, search={**search, "seed": 1}))
    assert runs[0] != {job.config.run_id for job in other}


def test_a_search_learns():
    space = {"train.lr": {"loguniform": [1e-3, 10]}}
    jobs = run_all(plan(space, search={"trials": 40, "batch": 2}))
    distances = [abs(job.config.train.lr - 0.2) for job in jobs]
    assert sum(distances[20:]) < 0.7 * sum(distances[:20])


def test_a_configuration_that_comes_twice_runs_once():
    duplicated = plan({"method.kappa": {"choice": [0.5]}}, search={"trials": 3, "batch": 3})
    job = duplicated.next()
    assert duplicated.next() is None
    assert not duplicated.done
    duplicated.tell(job, {"validation_accuracy": 0.5})
    assert duplicated.done


def test_failed_runs_do_not_end_a_search():
    failing = plan({"train.lr": {"uniform": [0.1, 0.2]}}, search={"trials": 4, "batch": 2})
    count = 0
    while not failing.done:
        job = failing.next()
        failing.tell(job, None if count % 2 else {"validation_accuracy": 0.5})
        count += 1
    assert count == 4


def test_overrides_are_of_the_sweep_or_of_its_base():
    sweep = load_sweep({"base": {"rounds": 3}}, ["search.trials=7", "rounds=9", "partition.alpha=0.1", "concurrent=3"])
    assert (sweep.search.trials, sweep.concurrent) == (7, 3)
    assert sweep.base == {"rounds": 9, "partition": {"alpha": 0.1}}


def test_a_smoke_sweep_keeps_what_it_is_about():
    space = {
        "data.name": {"grid": ["cifar10", "food101"]},
        "partition.alpha": {"grid": [10, 0.1]},
        "method.name": {"grid": ["deltamask", "fedavg"]},
        "seed": {"grid": [0, 1, 2]},
    }
    base = {
        "rounds": 100,
        "data": {"path": "/data"},
        "partition": {"name": "dirichlet"},
        "model": {"name": "clip-vit-b-32"},
    }
    jobs = run_all(Plan(load_sweep({"base": base, "space": space}, smoke=True)))
    assert len(jobs) == 4
    assert {(job.config.rounds, job.config.data.name, job.config.model.name) for job in jobs} == {
        (1, "digits", "tiny-vit")
    }
    assert {job.config.partition.name for job in jobs} == {"dirichlet"}


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"spaces": {}}, "spaces: unknown key; did you mean 'space'?"),
        ({"space": {"seed": {"grdi": [1]}}}, "space.seed.grdi: unknown key; did you mean 'grid'?"),
        ({"space": {"seed": {"grid": [1], "choice": [1]}}}, "space.seed: found grid and choice, allowed: one of grid"),
        ({"space": {"seed": {}}}, "space.seed: found none, allowed: one of grid"),
        ({"space": {"train.lr": {"uniform": [2, 1]}}}, "found [2.0, 1.0], allowed: [low, high] with low below high"),
        ({"space": {"train.lr": {"loguniform": [0, 1]}}}, "found [0.0, 1.0], allowed: numbers above 0"),
        ({"space": {"output": {"grid": ["a"]}}}, "output: found a key that does not change results"),
        ({"space": {"seed": {"grid": [1], "when": {"rounds": 1}}, "rounds": {"grid": [1]}}}, "allowed: a key above it"),
        (
            {"space": {"rounds": {"int": [1, 2]}, "seed": {"grid": [1], "when": {"rounds": 1}}}},
            "found the searched 'rounds', allowed: no searched key for a grid",
        ),
        ({"search": {"objectives": {"accuracy": "max"}}}, "found 'accuracy', allowed: one of run_id"),
        ({"early_stopping": {"column": "bits"}}, "found 'bits', allowed: one of run_id"),
        (
            {"base": {"partition": {"name": "dirichlet"}}, "space": {"partition.alfa": {"grid": [1]}}},
            "at partition.alfa=1: partition.alfa: unknown key; did you mean 'alpha'",
        ),
        ({"base": {"seed": -1}}, "space, at its base: seed: found -1"),
        (
            {"space": {"seed": {"grid": [0]}, "method.kappa": {"uniform": [0, 2]}}},
            "space, at seed=0, method.kappa=0.0: method.kappa: found 0.0",
        ),
    ],
)
def test_errors_name_the_field(sweep, message):
    with pytest.raises(ConfigError) as caught:
        Plan(load_sweep(sweep))
    assert message in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"expected a YAML file at 'none\.yaml'"):
        load_sweep("none.yaml")


def test_the_example_of_the_documentation_is_valid():
    text = (Path(__file__).parents[4] / "docs" / "sweeps.md").read_text()
    [example] = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    sweep = load_sweep(yaml.safe_load(example))
    assert Plan(sweep).total == 3 * 2 * 3 * 20
    assert {job.config.rounds for job in first_jobs(Plan(sweep))} == {100, 300}


def first_jobs(plan):
    while (job := plan.next()) is not None:
        yield job


def test_tuning_by_validation_samples_needs_some():
    sweep = {"base": {"data": {"validation": 0}}, "space": {"seed": {"grid": [0, 1]}}}
    assert Plan(load_sweep(sweep)).total == 2
    searched = sweep | {"space": {"train.lr": {"uniform": [0.1, 0.2]}}}
    with pytest.raises(ConfigError, match=r"search.objectives: found 'validation_accuracy', .*data.validation"):
        Plan(load_sweep(searched))
    assert Plan(load_sweep(searched, ["search.objectives={uplink_bytes: min}"])).total == 20
    with pytest.raises(ConfigError, match=r"early_stopping.column: found 'validation_accuracy'"):
        Plan(load_sweep(sweep | {"early_stopping": {}}))


def test_the_best_of_each_search_is_run_again_with_other_seeds():
    space = {"partition.clients": {"grid": [4, 5]}, "train.lr": {"uniform": [0.1, 0.9]}}
    sweep = load_sweep({"space": space, "search": {"trials": 5, "batch": 2, "confirm": [7, 8]}})
    plan = Plan(sweep)
    assert plan.total == 14
    jobs = []
    while not plan.done:
        job = plan.next()
        jobs.append(job)
        plan.tell(job, {"validation_accuracy": -abs(job.config.train.lr - 0.3) - job.config.partition.clients})
    for clients in (4, 5):
        tried = [job for job in jobs if job.config.partition.clients == clients]
        best = min((job for job in tried if job.config.seed == 0), key=lambda job: abs(job.config.train.lr - 0.3))
        confirmed = [job for job in tried if job.config.seed]
        assert [job.config.seed for job in confirmed] == [7, 8]
        assert {job.config.train.lr for job in confirmed} == {best.config.train.lr}
        assert len(tried) == 7


def test_a_search_of_which_every_run_fails_has_nothing_to_confirm():
    plan = Plan(load_sweep({"space": {"train.lr": {"uniform": [0.1, 0.9]}}, "search": {"trials": 3, "confirm": [1]}}))
    for _ in range(3):
        plan.tell(plan.next(), None)
    assert plan.done
    with pytest.raises(ConfigError, match=r"search.confirm: found \[1\], allowed: none"):
        load_sweep({"search": {"confirm": [1], "objectives": {"validation_accuracy": "max", "uplink_bytes": "min"}}})


def test_a_search_by_several_objectives_ends():
    objectives = {"validation_accuracy": "max", "uplink_bytes": "min"}
    space = {"train.lr": {"uniform": [0.1, 0.9]}}
    plan = Plan(load_sweep({"space": space, "search": {"trials": 3, "batch": 1, "objectives": objectives}}))
    for count in range(3):
        plan.tell(plan.next(), {"validation_accuracy": 0.5, "uplink_bytes": count})
    assert plan.done
