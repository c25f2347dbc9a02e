"""Callbacks: when they are told of a run, and what becomes of it where one raises."""

import json
import sys

import pytest

import fedsim
import results
from fedsim.callbacks import loggers
from fedsim.sweeps.config import load_sweep
from fedsim.sweeps.plan import Plan
from fedsim.sweeps.tracker import Tracker
from fedsim.testing._experiments import small_config
from results.log import read_log

TINY = ("rounds=1", "partition.clients=2", "data.train_samples=64", "data.test_samples=40")


class Moments(fedsim.Callback):
    """Notes the moments; raises at one of them."""

    def __init__(self, fails=None):
        self.fails, self.seen = fails, []

    def note(self, moment):
        self.seen.append(moment)
        if moment == self.fails:
            raise ZeroDivisionError("no disk left")

    def start(self, run):
        self.note(f"start after {len(run.stored)}")

    def round(self, run, row):
        self.note(f"round {row['round']}")

    def end(self, run, row):
        self.note(f"end {row['status']}{' reused' * run.reused}")


class Named(Moments):
    """What a configuration names; the last one made."""

    last = None

    def __init__(self):
        super().__init__()
        Named.last = self


@pytest.fixture
def config(tmp_path):
    return small_config(tmp_path, *TINY)


def test_the_three_moments_of_a_run_and_the_one_of_a_reused_one(config):
    seen = Moments()
    fedsim.run(config, callbacks=[seen])
    assert seen.seen == ["start after 0", "round 0", "round 1", "end finished"]
    again = Moments()
    assert fedsim.run(config, callbacks=[again]).reused
    assert again.seen == ["end finished reused"]


@pytest.mark.parametrize("moment", ["start after 0", "round 0", "end finished"])
def test_a_callback_that_raises_is_named_and_costs_no_round(config, moment):
    failing, other = Moments(moment), Moments()
    with pytest.raises(fedsim.CallbackError, match=r"test_callbacks\.Moments failed .*no disk left") as raised:
        fedsim.run(config, callbacks=[failing, other])
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    assert failing.seen[-1] == moment
    stored = results.load(config.output)
    [status], [error] = stored.runs["status"], stored.runs["error"].fillna("")
    assert other.seen[-1] == f"end {status}"
    if moment == "end finished":
        assert (status, error) == ("finished", "")
        return
    assert status == "failed"
    assert error.startswith("CallbackError: the callback tests.unit.")
    assert 'raise ZeroDivisionError("no disk left")' in read_log(f"{config.output}/{config.run_id}")
    rounds = [] if moment.startswith("start") else [0]
    assert stored.rounds["round"].tolist() == rounds
    more = Moments()
    assert fedsim.resume(f"{config.output}/{config.run_id}", callbacks=[more]).row["status"] == "finished"
    assert more.seen[0] == f"start after {len(rounds)}"


def test_what_is_no_callback_is_refused_before_anything_runs(config, tmp_path):
    with pytest.raises(fedsim.CallbackError, match=r"found <function print>|found <built-in function print>"):
        fedsim.run(config, callbacks=[print])
    assert not (tmp_path / config.run_id).exists()


def test_a_sweep_goes_on_without_a_callback_that_raises(config, tmp_path):
    tree = config.model_dump(mode="json", exclude={"log"})
    plan = Plan(load_sweep({"base": tree, "space": {"seed": {"grid": [0, 1]}}}))
    seen = {}

    class Values(fedsim.Callback):
        def start(self, run):
            seen["start"] = (dict(run.values), run.sweep.name, run.sweep.total, run.sweep.output)

        def end(self, run, row):
            seen["end"] = (row["status"], run.path)

    failing = Moments("start after 0")
    tracker = Tracker(plan, [failing, Values()], "night")
    tracker.jobs["trial"] = job = tracker.next()
    tracker.started("trial")
    tracker.round("trial", {"round": 0})
    tracker.ended("trial", "RuntimeError: lost")
    assert failing.seen == ["start after 0"]
    assert seen["start"] == ({"seed": 0}, "night", 2, str(tmp_path))
    assert seen["end"] == ("failed", f"{tmp_path}/{job.config.run_id}")
    with pytest.raises(fedsim.CallbackError, match="no disk left"):
        tracker.callbacks.check()


def test_a_configuration_names_callbacks_and_its_run_is_the_same(config, tmp_path):
    name = f"{__name__}:Named"
    told = small_config(tmp_path, *TINY, f"log.callbacks=[{name}]")
    assert told.run_id == config.run_id
    row = fedsim.run(told).row
    assert Named.last.seen[-1] == "end finished"
    assert json.loads(row["config"])["log"]["callbacks"] == [name]
    path = tmp_path / told.run_id
    with pytest.raises(fedsim.ConfigError, match=r"log.callbacks: found .* in a stored configuration, allowed: "):
        fedsim.resume(path)
    assert fedsim.resume(path, trust=True).reused
    assert fedsim.resume(path, [f"log.callbacks=[{name}]"]).reused
    assert "log" not in json.loads(fedsim.run(config, fresh=True).row["config"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("[json:JSONDecoder]", "log.callbacks: found 'json:JSONDecoder', allowed: a subclass of fedsim.callbacks"),
        ("[nowhere:Callback]", "log.callbacks: found 'nowhere:Callback', allowed: "),
        (f"[{__name__}:NeedsArguments]", "log.callbacks: .*missing 1 required"),
    ],
)
def test_names_that_cannot_be_used(tmp_path, names, message):
    with pytest.raises(fedsim.ConfigError, match=message):
        fedsim.run(small_config(tmp_path, *TINY, f"log.callbacks={names}"))
    assert not list(tmp_path.glob("deltamask*"))


class NeedsArguments(fedsim.Callback):
    def __init__(self, argument):
        pass


@pytest.mark.parametrize("key", ["tensorboard", "mlflow", "wandb"])
def test_a_logger_that_is_not_installed_names_its_extra(tmp_path, key, monkeypatch):
    monkeypatch.setitem(sys.modules, f"fedsim.callbacks._{key}", None)  # as if its library were not there
    with pytest.raises(fedsim.ConfigError, match=rf"log\.{key}: found 'x', .*pip install 'deltamask\[{key}\]'"):
        loggers(small_config(tmp_path, f"log.{key}=x").log)


def test_a_sweep_cannot_vary_the_loggers():
    with pytest.raises(fedsim.ConfigError, match=r"log\.tensorboard: found a key that does not change results"):
        load_sweep({"space": {"log.tensorboard": {"grid": ["a"]}}})
