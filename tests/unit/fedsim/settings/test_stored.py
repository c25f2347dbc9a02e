"""Code that a stored configuration names is imported only when it is named again, or all is trusted."""

import sys

import pytest

from fedsim import ConfigError
from fedsim.config import load_stored_config
from fedsim.settings import assign

#: A key of each kind, what it needs beside it, and a class to derive from.
KINDS = {
    "data.name": ({}, "fedsim.data.digits", "Digits"),
    "partition.name": ({}, "fedsim.data.partition.iid", "Iid"),
    "model.name": ({}, "fedsim.models.tiny_vit", "TinyViTFamily"),
    "head.name": ({}, "fedsim.heads.untrained", "RandomHead"),
    "method.name": ({}, "fedsim.methods.fedavg", "FedAvg"),
    "method.compressor.name": ({"method": {"name": "fedavg"}}, "fedsim.compression.none", "NoCompression"),
    "method.codec": ({}, "deltamask.codecs.bitmap", "Bitmap"),
}


@pytest.fixture(params=KINDS)
def stored(request, tmp_path, monkeypatch):
    """A stored configuration that names a class, the key and the module."""
    tree, base, parent = KINDS[request.param]
    tree, module = {group: dict(keys) for group, keys in tree.items()}, "stored_" + request.param.replace(".", "_")
    (tmp_path / f"{module}.py").write_text(f"from {base} import {parent}\n\n\nclass Stored({parent}):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assign(tree, request.param, f"{module}:Stored")
    yield tree, request.param, module
    sys.modules.pop(module, None)


def found(config, key):
    for part in key.split("."):
        config = getattr(config, part)
    return config


def test_code_of_a_stored_configuration_is_not_imported(stored):
    tree, key, module = stored
    with pytest.raises(ConfigError) as raised:
        load_stored_config(tree, ["rounds=3"])
    assert f"{key}: found '{module}:Stored' in a stored configuration, allowed: to import it only" in str(raised.value)
    assert f"({key}={module}:Stored)" in str(raised.value)
    assert module not in sys.modules


def test_it_is_when_it_is_named_again(stored):
    tree, key, module = stored
    assert found(load_stored_config(tree, [f"{key}={module}:Stored"]), key) == f"{module}:Stored"
    assert module in sys.modules


def test_it_is_when_everything_is_trusted(stored):
    tree, key, module = stored
    assert found(load_stored_config(tree, trust=True), key) == f"{module}:Stored"


def test_naming_other_code_does_not_help(stored):
    tree, _, module = stored
    with pytest.raises(ConfigError):
        load_stored_config(tree, [f"output={module}:Other"])
    assert module not in sys.modules
