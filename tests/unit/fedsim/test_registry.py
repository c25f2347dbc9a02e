"""What ``package.module:Class`` may be, and what is said where it is not."""

import pytest

from fedsim import load_config
from fedsim.methods import CODECS, METHODS
from fedsim.methods.fedavg import FedAvg


class SgdByDefault(FedAvg):
    """FedAvg with SGD."""

    name, summary = "sgd-by-default", "FedAvg with SGD"
    train_defaults = {"optimizer": "sgd", "momentum": 0.5, "lr": 0.1}  # noqa: RUF012


@pytest.mark.parametrize("name", ["./mine.py:P", ".mine:P", ":P", "nowhere:", "fedsim.config:Config", "fedsim:nothing"])
def test_names_that_cannot_be_imported_or_are_of_another_kind_are_refused(name):
    with pytest.raises(ValueError, match=r"found '.*', allowed: "):
        METHODS.get(name)


def test_a_class_that_lacks_methods_is_refused_with_their_names():
    with pytest.raises(ValueError, match=r"found 'deltamask\.codecs:Codec', allowed: a class that implements decode, "):
        CODECS.get("deltamask.codecs:Codec")


def test_an_imported_codec_is_an_instance_as_the_registered_ones_are():
    assert CODECS.get("deltamask.codecs.bitmap:Bitmap").encode(CODECS.get("bitmap").decode(b"\x80", 8), 8) == b"\x80"


def test_a_default_that_another_key_makes_meaningless_is_left_out():
    method = f"method.name={__name__}:SgdByDefault"
    assert load_config(None, [method]).train.momentum == 0.5
    adam = load_config(None, [method, "train.optimizer=adam"])
    assert "momentum" not in adam.train.model_dump()
