"""Every key of every group: who takes it, who refuses it, and whether a run is named after it."""

import copy
import json
from typing import Literal, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedsim import ConfigError, load_config
from fedsim.config import MOVED, Config, registries
from fedsim.methods.fedavg import FedAvg
from fedsim.settings import ClusterSettings, Settings, TrainSettings, assign, no_result

#: Groups that a registry's member owns, and what a configuration needs so that each member may be chosen.
BASES = {
    "data": {},
    "partition": {},
    "model": {},
    "head": {},
    "method": {},
    "method.compressor": {"method": {"name": "fedavg"}},
}
#: Valid values where a key's type and bounds do not tell them.
VALUES = {
    "output": st.sampled_from(["elsewhere", "s3://bucket/runs"]),
    "cluster.gpus_per_worker": st.sampled_from([0.25, 1.0, 2.0]),
    "cluster.py_modules": st.sampled_from([(), ("my_methods.py",)]),
    "model.input_size": st.sampled_from(range(70, 225, 14)),  # what every backbone with this key takes
    "model.hidden": st.sampled_from([(), (8,), (8, 9)]),
    "method.clip": st.floats(0.001, 0.04),
    "method.theta_init": st.floats(0.1, 0.9),
    "method.codec": st.sampled_from([codec.name for codec in registries()["method.codec"]]),
    "method.targets": st.sampled_from(["attn", "linear"]),
    "data.augment": st.sampled_from([("flip",), ("crop",), ("randaugment", "flip")]),
}
#: Keys of the group without which a key is refused, where it is not the value of one other that says so.
NEEDED = {
    ("data", "views"): lambda member: {"augment": ["flip"]},
    ("model", "revision"): lambda member: {"name": member.replace("NAME", "hf-hub:org/net")},
}


class Untrained(FedAvg):
    """A method that says it does not train by steps."""

    train_defaults = None


def members(group):
    return list(registries()[group])


def own_keys(params):
    return [key for key, info in params.model_fields.items() if key != "name" and not is_group(info.annotation)]


def is_group(annotation):
    return any(isinstance(part, type) and issubclass(part, Settings) for part in (annotation, *get_args(annotation)))


def tree_of(group, member, keys=()):
    """A configuration whose group has a member and these keys."""
    tree = copy.deepcopy(BASES.get(group, {}))
    if member is not None:
        assign(tree, f"{group}.name", member)
    for key, value in dict(keys).items():
        assign(tree, f"{group}.{key}" if group else key, value)
    return tree


def found_in(config, group):
    for part in filter(None, group.split(".")):
        config = getattr(config, part)
    return config


def values_of(group, key, info):
    """Valid values of a key."""
    name = f"{group}.{key}" if group else key
    if name in VALUES:
        return VALUES[name]
    annotation = next(part for part in (get_args(info.annotation) or (info.annotation,)) if part is not type(None))
    if get_origin(info.annotation) is Literal:
        return st.sampled_from(get_args(info.annotation))
    bounds = {
        what: getattr(item, what) for item in info.metadata for what in ("ge", "gt", "le", "lt") if hasattr(item, what)
    }
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        assert "gt" not in bounds
        return st.integers(bounds.get("ge"), bounds["lt"] - 1 if "lt" in bounds else bounds.get("le"))
    if annotation is float:
        low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
        finite = {"allow_nan": False, "allow_infinity": False}
        return st.floats(low, high, exclude_min="gt" in bounds, exclude_max="lt" in bounds, **finite)
    assert annotation is str, f"{name}: its valid values are to be added to VALUES"
    return st.text("abc", min_size=1)  # no path of this machine: all that is below it would be read


def enabling(group, member, params, key):
    """The value of another key that makes a key used."""
    if (group, key) in NEEDED:
        return NEEDED[group, key](member)
    if key not in params.only_with:
        return {}
    other, values = params.only_with[key]
    return {other: values[0]}


KEYS = [
    *(("", None, Config, key) for key in own_keys(Config)),
    *(("train", None, TrainSettings, key) for key in own_keys(TrainSettings)),
    *(("cluster", None, ClusterSettings, key) for key in own_keys(ClusterSettings)),
    *(
        (group, member.name, member.Params, key)
        for group in BASES
        for member in members(group)
        for key in own_keys(member.Params)
    ),
]
LACKED = [
    (group, member.name, key, [other.name for other in members(group) if key in other.Params.model_fields])
    for group in BASES
    for member in members(group)
    for key in sorted({key for other in members(group) for key in other.Params.model_fields})
    if key not in member.Params.model_fields
]
CONDITIONAL = [case for case in KEYS if case[3] in case[2].only_with]
MEMBERS = [(group, member.name) for group in registries() for member in members(group)]


def name(value):
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(("group", "member", "params", "key"), KEYS, ids=name)
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_run_is_named_after_a_key_if_and_only_if_it_can_change_a_result(group, member, params, key, data):
    used = enabling(group, member, params, key)
    first = load_config(tree_of(group, member, used))
    current = getattr(found_in(first, group), key)
    value = data.draw(values_of(group, key, params.model_fields[key]).filter(lambda value: value != current))
    other = load_config(tree_of(group, member, {**used, key: value}))
    assert getattr(found_in(other, group), key) == value
    idle = group == "cluster" or key == "output" or params.model_fields[key].json_schema_extra == no_result
    assert (other.run_id == first.run_id) == idle
    assert load_config(tree_of(group, member, {**used, key: current})).run_id == first.run_id
    assert load_config(json.loads(other.model_dump_json())) == other


@pytest.mark.parametrize("group", BASES)
def test_every_member_gives_a_run_another_name(group):
    found = [load_config(tree_of(group, member.name)).run_id for member in members(group)]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(("group", "member", "key", "owners"), LACKED, ids=name)
def test_keys_of_other_members_are_refused_and_say_whose_they_are(group, member, key, owners):
    with pytest.raises(ConfigError) as raised:
        load_config(tree_of(group, member, {key: 1}))
    [line] = str(raised.value).splitlines()
    start, _, rest = line.partition(", but by: ")
    assert start == f"{group}.{key}: not used where name is {member}"
    tail = f" ({member} has no compressor)" if key == "compressor" else " (allowed: "
    assert rest.partition(tail)[:2] == (", ".join(owners), tail)


@pytest.mark.parametrize(("group", "member", "params", "key"), CONDITIONAL, ids=name)
def test_keys_that_another_value_makes_meaningless_are_refused_and_not_stored(group, member, params, key):
    other, used = params.only_with[key]
    named = get_args(params.model_fields[other].annotation) or [used[0] + 1]  # a number has no list of its values
    [unused, *_] = [value for value in named if value not in used]
    config = load_config(tree_of(group, member, {other: unused}))
    stored = json.loads(config.model_dump_json())
    assert key not in found_in_tree(stored, group)
    assert load_config(stored) == config
    value = getattr(found_in(config, group), key)
    with pytest.raises(ConfigError) as raised:
        load_config(tree_of(group, member, {other: unused, key: value}))
    wanted = " or ".join(map(repr, used))
    assert str(raised.value) == (
        f"{group}.{key}: found {value!r}, allowed: none, as it is used only where {other} is {wanted}, found {unused!r}"
    )


def found_in_tree(tree, group):
    for part in group.split("."):
        tree = tree[part]
    return tree


@pytest.mark.parametrize(("group", "member"), MEMBERS)
def test_what_is_stored_loads_again_to_the_same(group, member):
    config = load_config({"method": {"codec": member}} if group == "method.codec" else tree_of(group, member))
    again = load_config(json.loads(config.model_dump_json()))
    assert again == config
    assert again.run_id == config.run_id


@pytest.mark.parametrize("old", MOVED)
def test_keys_of_earlier_versions_say_where_they_are_now(old):
    tree = {}
    assign(tree, old, 1)
    with pytest.raises(ConfigError) as raised:
        load_config(tree)
    assert str(raised.value) == f"{old}: moved to {MOVED[old]}"
    group, key = MOVED[old].split(".")
    assert any(key in member.Params.model_fields for member in members(group))


def test_momentum_is_refused_under_adam_and_taken_under_sgd():
    with pytest.raises(ConfigError, match=r"train.momentum: found 0.5, .* optimizer is 'sgd' or 'normalized-sgd'"):
        load_config({"train": {"momentum": 0.5}})
    assert load_config({"train": {"momentum": 0.5, "optimizer": "sgd"}}).train.momentum == 0.5


def test_a_method_that_does_not_train_by_steps_has_no_training_keys():
    method = {"name": f"{__name__}:Untrained"}
    config = load_config({"method": method})
    assert config.train is None
    assert load_config(json.loads(config.model_dump_json())) == config
    with pytest.raises(ConfigError, match=r"train: found \{'lr': 0.1\}, allowed: none, as .*Untrained does not train"):
        load_config({"method": method, "train": {"lr": 0.1}})
