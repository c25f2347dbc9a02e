"""Conditions and smoke runs of sweeps whose members have keys of their own."""

import pytest

from fedsim import ConfigError
from fedsim.sweeps.config import load_sweep
from fedsim.sweeps.plan import Plan


def jobs(sweep, **options):
    plan = Plan(load_sweep(sweep, **options))
    while (job := plan.next()) is not None:
        yield job


def test_a_moved_key_in_a_condition_is_refused_with_its_new_name():
    space = {"rounds": {"grid": [3], "when": {"data.alpha": 0.1}}}
    with pytest.raises(ConfigError, match=r"rounds\.when\.data\.alpha: moved to partition\.alpha"):
        load_sweep({"space": space})


def test_a_condition_on_a_key_that_is_not_used_never_holds():
    space = {"seed": {"grid": [1, 2], "when": {"train.momentum": 0.9}}}
    assert [job.config.seed for job in jobs({"space": space})] == [0]
    sgd = {"base": {"train": {"optimizer": "sgd"}}, "space": space}
    assert [job.config.seed for job in jobs(sgd)] == [1, 2]


def test_a_condition_that_cannot_be_looked_up_says_where():
    space = {"partition.alpha": {"grid": [10]}, "seed": {"grid": [1], "when": {"rounds": 20}}}
    with pytest.raises(ConfigError, match=r"space, for a condition on rounds, by the keys above it: partition\.alpha"):
        list(jobs({"space": space}))


def test_a_smoke_run_leaves_out_what_the_digits_do_not_have():
    base = {
        "data": {"name": "parquet", "path": "/data", "label_column": "fine", "max_corrupt": 0.5},
        "partition": {"name": "natural", "column": "writer"},
        "model": {"name": "clip-vit-b-32", "checkpoint": "file", "mask_biases": True},
    }
    space = {"data.label_column": {"grid": ["a", "b"]}, "data.name": {"grid": ["parquet", "cifar10"]}}
    [job] = jobs({"base": base, "space": space}, smoke=True)
    config = job.config
    assert (config.data.name, config.data.max_corrupt, config.partition.name) == ("digits", 0.5, "iid")
    assert (config.model.name, config.model.mask_biases, config.partition.clients) == ("tiny-vit", True, 5)
