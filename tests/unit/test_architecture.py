"""The rooms of the house and what they may know of each other."""

import ast
import doctest
import graphlib
import importlib.util
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import deltamask
import fedsim
import results

ROOT = Path(__file__).parents[2]
PACKAGES = ("deltamask", "results", "fedsim", "pipelines")
FORBIDDEN = {
    "deltamask": {"ray", "fedsim", "results", "pipelines"},
    "results": {"ray", "torch", "fedsim", "deltamask", "pipelines"},
    "fedsim": {"pipelines"},
}
#: Rooms and files of fedsim from the bottom up: each imports only what is in a line above its own, or its own room.
LAYERS = [
    ["errors", "registry", "provenance", "logs"],
    ["settings"],
    ["data", "compression"],
    ["models"],
    ["methods"],
    ["heads"],
    ["config"],
    ["callbacks"],
    ["world"],
    ["features"],
    ["engine"],
    ["distributed"],
    ["display"],
    ["sweeps"],
    ["runner"],
    ["dashboard"],
    ["cli"],
    ["__main__", "__init__", "testing"],
]
RAY_MODULES = {
    "distributed/_driver.py",
    "distributed/_executor.py",
    "distributed/_pool.py",
    "distributed/_worker.py",
    "distributed/_cluster.py",
    "sweeps/runner.py",
    "sweeps/trial.py",
}
MOST_LINES, MOST_ROOT_FILES = 260, 10


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Dotted names of the modules that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                names.add(submodule if file_of(submodule) else node.module)
    return names


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


def file_of(name: str) -> Path | None:
    base = ROOT.joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.exists()), None)


def graph() -> dict[Path, set[Path]]:
    """The files of this repository and those that each imports; a module counts, not the packages that it lies in."""
    files = {path for package in PACKAGES for path in sources(package)}
    return {path: {target for name in imported(path) if (target := file_of(name)) in files} for path in files}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_go_one_way(package):
    for path in sources(package):
        assert not roots(path) & FORBIDDEN[package], path


def test_no_files_import_each_other_in_a_circle():
    graphlib.TopologicalSorter(graph()).prepare()  # raises CycleError, which names the files of a circle


def test_a_circle_is_found():
    files = [ROOT / "fedsim" / name for name in ("config.py", "registry.py")]
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph() | {files[0]: {files[1]}, files[1]: {files[0]}}).prepare()


def layer(path: Path) -> int:
    room = path.relative_to(ROOT / "fedsim").parts[0].removesuffix(".py")
    [found] = [index for index, rooms in enumerate(LAYERS) if room in rooms]
    return found


def test_no_file_of_fedsim_imports_upwards():
    room = {path: path.relative_to(ROOT / "fedsim").parts[0] for path in sources("fedsim")}
    for path, targets in graph().items():
        for target in targets & room.keys():
            if path in room:
                assert room[path] == room[target] or layer(path) > layer(target), f"{path} imports {target}"


def test_few_modules_of_fedsim_know_ray():
    found = {path.relative_to(ROOT / "fedsim").as_posix() for path in sources("fedsim") if "ray" in roots(path)}
    assert found == RAY_MODULES


def test_methods_have_no_clock():
    for path in (*sources("fedsim/methods"), *sources("fedsim/heads"), *sources("fedsim/compression")):
        assert not roots(path) & {"time", "datetime"}, path


def test_files_are_short_and_the_root_of_fedsim_is_small():
    for path in (path for package in (*PACKAGES, "tests") for path in sources(package)):
        assert len(path.read_text().splitlines()) <= MOST_LINES, path
    files = [path.name for path in (ROOT / "fedsim").iterdir() if path.is_file()]
    assert len(files) <= MOST_ROOT_FILES, files


def test_docstrings_open_with_a_noun_or_an_imperative():
    for path in (path for package in PACKAGES for path in sources(package)):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                opening = (ast.get_docstring(node) or "-").split()[0]
                assert opening not in {"What", "Who", "Where", "How", "Which", "Those", "These", "It"}, path


@pytest.mark.parametrize(("package", "absent"), [("deltamask", "ray"), ("results", "torch"), ("fedsim", "torch")])
def test_importing_a_package_does_not_import_what_it_need_not(package, absent):
    code = f"import sys, {package}; sys.exit('{absent}' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("package", [deltamask, fedsim, results], ids=lambda package: package.__name__)
def test_docstring_examples_run(package):
    names = [package.__name__, *(m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + "."))]
    for name in names:
        if name == "deltamask.cuda" and importlib.util.find_spec("triton") is None:
            continue  # comes with torch for CUDA
        failed, _ = doctest.testmod(importlib.import_module(name))
        assert failed == 0, name
    assert doctest.testmod(deltamask).attempted > 10


@pytest.mark.parametrize("package", [deltamask, fedsim, results], ids=lambda package: package.__name__)
def test_what_a_package_offers_exists_and_is_documented(package):
    for name in package.__all__:
        assert getattr(package, name).__doc__, name
