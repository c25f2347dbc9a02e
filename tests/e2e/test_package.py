"""The wheel and the library as their users get them: built, installed in an empty environment, run elsewhere."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from email import message_from_bytes
from pathlib import Path
from tarfile import open as open_tar
from zipfile import ZipFile

import pytest

import results

ROOT = Path(__file__).parents[2]
LIBRARY = ["constriction", "numba", "numpy", "pillow", "pyfusefilter", "torch"]
SMALL = ["rounds=1", "partition.clients=2", "data.train_samples=64", "data.test_samples=40"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder with the sdist of the tracked files, and the wheel that is built from the sdist alone."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-cf", source / "all.tar", "--null", "-T", "-"], cwd=ROOT, check=True, input=tracked)
    subprocess.run(["tar", "-xf", "all.tar"], cwd=source, check=True)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def wheel(built):
    [path] = built.glob("deltamask-*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """Folder of commands of an environment with the wheel, and with the third-party packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True)
    [site] = folder.glob("lib/python*/site-packages")
    # A folder that a .pth file names is not searched for further ones: an editable install of this checkout stays out.
    (site / "third_party.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_wheel_needs_the_library_s_packages_alone(wheel):
    with ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = message_from_bytes(archive.read(name))
        names = set(archive.namelist())
    requirements = metadata.get_all("Requires-Dist")
    assert sorted(line.split(">=")[0] for line in requirements if "extra ==" not in line) == LIBRARY
    assert metadata["Name"] == "deltamask"
    extras = {
        "sim",
        "hf",
        "pretrained",
        "privacy",
        "tensorboard",
        "mlflow",
        "wandb",
        "dashboard",
        "test",
        "docs",
        "dev",
    }
    assert set(metadata.get_all("Provides-Extra")) == extras
    data = {"fedsim/data/digits.npz", "fedsim/models/tiny-vit.safetensors", "results/templates/page.html"}
    assert {*data, "deltamask/py.typed"} <= names
    assert not any(name.startswith("tests/") for name in names)


def test_the_sdist_holds_what_the_wheel_is_built_from(built):
    [path] = built.glob("deltamask-*.tar.gz")
    with open_tar(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "fedsim/models/tiny-vit.safetensors", "pyproject.toml", "setup.cfg"} <= names


def test_an_installed_wheel_runs_with_its_weights_and_templates(environment, tmp_path):
    where = subprocess.run(
        [environment / "python", "-c", "import fedsim; print(fedsim.__file__)"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert where.startswith(str(environment.parent))
    run = [environment / "fedsim", "run", "cluster.executor=serial", "output=runs", *SMALL]
    subprocess.run(run, cwd=tmp_path, check=True, capture_output=True)
    row = results.load(tmp_path / "runs").runs.iloc[0]
    assert (row["status"], row["weights"]) == ("finished", "embedded")
    module = [environment / "python", "-m", "fedsim", "report", "runs"]
    subprocess.run(module, cwd=tmp_path, check=True, capture_output=True)
    assert "<table" in (tmp_path / "runs" / "report" / "index.html").read_text()


def test_the_library_imports_none_of_the_simulator_s_packages(tmp_path):
    code = """
import doctest, sys
import deltamask

tried = doctest.testmod(deltamask)
assert tried.attempted > 10 and tried.failed == 0
absent = {"fedsim", "matplotlib", "open_clip", "optuna", "pandas", "pipelines", "pyarrow", "pydantic", "ray", "results",
          "rich", "safetensors", "sklearn", "timm", "torchvision", "typer"}
assert not absent & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
