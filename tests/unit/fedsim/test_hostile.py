"""Hostile and broken input: a message that names the field, at once, and never a traceback of ours."""

import pytest

from fedsim.config import load_config
from fedsim.errors import ConfigError
from fedsim.sweeps.config import load_sweep
from fedsim.sweeps.plan import Plan

BOMB = "\n".join(
    ["seed: 0", "l0: &l0 [x, x]", *(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12))]
)


@pytest.mark.parametrize("load", [load_config, load_sweep])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "found more than 100,000 values, allowed: fewer"),
        ("base: &a {x: *a}", "found more than 50 levels, allowed: fewer"),
        ("base: " + "[" * 20_000, "found too many levels"),
        ("base: " + "[" * 60 + "]" * 60, "found more than 50 levels"),
        (
            f"base: {{output: {'x' * 20_000}}}",
            "base.output: found a text of 20,000 characters, allowed: at most 10,000",
        ),
        (f"base: {{seed: {'9' * 5000}}}", "Exceeds the limit"),
        ("base: {seed: 2001-99-99}", "month must be in 1..12"),
        ("base: [", "expected YAML in"),
        ("- 1", "expected keys and values in"),
        ("base: !!python/object:os.system {}", "could not determine a constructor"),
    ],
)
def test_files_that_say_more_than_a_computer_holds(tmp_path, load, text, message):
    (tmp_path / "file.yaml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        load(tmp_path / "file.yaml")
    assert message in str(raised.value)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (f"seed={'9' * 5000}", "seed: found"),
        (f"output={'x' * 20_000}", "output: found a text of 20,000 characters"),
        (f"method.name={'x' * 20_000}", "method.name: found a text of 20,000 characters"),
        (f"rounds={'[' * 20_000}", "rounds: found 20,000 characters, allowed: a YAML value; too many levels"),
        ("output=s3://", "output: found 's3://', allowed: a local path or an s3://BUCKET"),
        ("method.name=raises:Method", "that can be imported (ZeroDivisionError: division by zero)"),
        ("method.name=leaves:Method", "that can be imported (SystemExit: 3)"),
        ("method.name=broken:Method", "that can be imported (SyntaxError: "),
    ],
)
def test_overrides(tmp_path, monkeypatch, override, message):
    for name, code in (("raises", "1 / 0"), ("leaves", "raise SystemExit(3)"), ("broken", "def")):
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError) as raised:
        load_config(None, [override])
    assert message in str(raised.value)
    assert len(str(raised.value)) < 6000


@pytest.mark.parametrize(
    ("space", "overrides", "message"),
    [
        (
            {f"k{n}": {"grid": list(range(100))} for n in range(6)},
            [],
            "space: found a grid of 100 x 100 x 100 x 100 x 100 x 100 points, allowed: at most 100,000",
        ),
        ({"seed": {"grid": [1], "when": {"metod.name": "fedavg"}}}, [], "found a condition (when) on metod.name"),
        ({"train.lr": {"grid": [1]}}, ["train.lr=2"], "train.lr: found in space as train.lr, allowed: space.train.lr="),
        ({"train": {"grid": [{"lr": 1}]}}, ["train.lr=2"], "train.lr: found in space as train, allowed: space.train="),
    ],
)
def test_sweeps(space, overrides, message):
    with pytest.raises(ConfigError) as raised:
        Plan(load_sweep({"base": {}, "space": space}, overrides))
    assert message in str(raised.value)


def test_an_empty_sweep_is_none(tmp_path):
    (tmp_path / "sweep.yaml").write_text("# nothing yet")
    with pytest.raises(ConfigError, match="config: found nothing, allowed: a sweep, with base and space"):
        load_sweep(tmp_path / "sweep.yaml")


def test_conditions_on_keys_of_members_that_no_run_has_are_fine():
    space = {"seed": {"grid": [1, 2], "when": {"method.kappa": 0.8}}}
    assert Plan(load_sweep({"base": {"method": {"name": "fedavg"}}, "space": space})).total == 1
