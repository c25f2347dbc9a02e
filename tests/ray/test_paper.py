"""Every sweep of the paper runs, shrunk to embedded data and backbone."""

import re
from pathlib import Path

import pytest

import fedsim
from fedsim.sweeps.config import load_sweep
from fedsim.sweeps.plan import Plan

_SHORT = ("table-non-iid",)  # the others differ in values; `make long` runs them
PAPER = sorted((Path(__file__).parents[2] / "pipelines" / "paper").glob("*.yaml"))


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """One folder for all, so that what two sweeps have in common runs once."""
    return str(tmp_path_factory.mktemp("smoke"))


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[] if path.stem in _SHORT else pytest.mark.long) for path in PAPER],
    ids=lambda path: path.stem,
)
def test_the_smoke_run_finishes(path, output):
    result = fedsim.sweep(path, [f"output={output}"], smoke=True)
    runs = result.load().runs
    assert set(runs["status"]) == {"finished"}
    assert runs["uplink_bytes"].gt(0).all()


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_the_full_sweep_is_valid_and_says_what_is_known_and_assumed(path):
    known, assumed = re.findall(r"\*\*(?:Known|Assumed)[^*]*:\*\* (.*)", (path.parent / "README.md").read_text())
    assert "Dirichlet" in known or "frozen backbone" in known
    assert "30 clients" in assumed
    sweep = load_sweep(path)
    assert f"runs/paper/{path.stem}" == sweep.base["output"]
    assert Plan(sweep).total >= 24


def test_there_is_one_for_each_table_and_figure():
    names = {"table-iid", "table-non-iid", "backbones", "kappa", "filters", "heads", "data-volume", "encoding-time"}
    assert {path.stem for path in PAPER} == names
