"""The rooms of the house and what they may know of each other."""

import ast
import doctest
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import deltamask
import fedsim
import results

ROOT = Path(__file__).parents[2]
FORBIDDEN = {
    "deltamask": {"ray", "fedsim", "results", "pipelines"},
    "results": {"ray", "torch", "fedsim", "deltamask", "pipelines"},
    "fedsim": {"pipelines"},
}
RAY_MODULES = {
    "distributed/_driver.py",
    "distributed/_workers.py",
    "distributed/_cluster.py",
    "sweeps/runner.py",
    "sweeps/trial.py",
}


def imports(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    nodes = ast.walk(ast.parse(path.read_text()))
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_go_one_way(package):
    for path in (ROOT / package).rglob("*.py"):
        assert not imports(path) & FORBIDDEN[package], path


def test_few_modules_of_fedsim_know_ray():
    found = {
        path.relative_to(ROOT / "fedsim").as_posix()
        for path in (ROOT / "fedsim").rglob("*.py")
        if "ray" in imports(path)
    }
    assert found == RAY_MODULES


@pytest.mark.parametrize(("package", "absent"), [("deltamask", "ray"), ("results", "torch"), ("fedsim", "torch")])
def test_importing_a_package_does_not_import_what_it_need_not(package, absent):
    code = f"import sys, {package}; sys.exit('{absent}' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("package", [deltamask, fedsim, results], ids=lambda package: package.__name__)
def test_docstring_examples_run(package):
    names = [package.__name__, *(m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + "."))]
    for name in names:
        failed, _ = doctest.testmod(importlib.import_module(name))
        assert failed == 0, name
    assert doctest.testmod(deltamask).attempted > 10


@pytest.mark.parametrize("package", [deltamask, fedsim, results], ids=lambda package: package.__name__)
def test_what_a_package_offers_exists_and_is_documented(package):
    for name in package.__all__:
        assert getattr(package, name).__doc__, name
