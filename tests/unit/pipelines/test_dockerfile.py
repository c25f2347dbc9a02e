"""The image of the clusters, as far as it can be checked without building it."""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "pipelines" / "cluster" / "Dockerfile").read_text()
#: Name and arguments of each instruction.
STEPS = [line.split(maxsplit=1) for line in TEXT.replace("\\\n", " ").splitlines() if line and line[0] != "#"]


def of(name):
    return [arguments for instruction, arguments in STEPS if instruction == name]


@pytest.fixture
def setup():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


@pytest.fixture
def pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.partition(";")[0].split("==") for line in lines if not line.startswith("#"))


def test_instructions_are_known():
    assert {name for name, _ in STEPS} == {"ARG", "FROM", "ENV", "WORKDIR", "COPY", "RUN"}


def test_every_device_has_a_stage_of_the_pinned_ray_on_a_supported_python(setup, pinned):
    device, index = of("ARG")
    assert index == "TORCH_CPU_INDEX"  # which no index is named for here
    *stages, last = of("FROM")
    assert device == "DEVICE=cuda"
    assert last == "base-${DEVICE}"
    assert [stage.rpartition(" ")[2] for stage in stages] == ["base-cuda", "base-cpu"]
    least = tuple(map(int, setup["options"]["python_requires"].removeprefix(">=").split(".")))
    for stage in stages:
        ray, major, minor = re.match(r"rayproject/ray:([\d.]+)-py(\d)(\d+)-[cg]pu AS", stage).groups()
        assert ray == pinned["ray"]
        assert least <= (int(major), int(minor)) <= (3, 13)


def test_what_is_copied_exists_and_reaches_the_builder():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    for line in of("COPY"):
        *sources, target = line.split()[1:]
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored
        assert target in ("./", f"./{sources[0]}")


def test_the_image_holds_what_the_wheel_is_made_of(setup):
    copied = {source for line in of("COPY") for source in line.split()[1:-1]}
    packages = {name.rstrip("*") for name in setup["options.packages.find"]["include"].split()}
    assert packages | {"setup.cfg", "pyproject.toml", setup["metadata"]["license_files"]} <= copied


def test_what_is_installed_is_constrained_and_known(setup):
    [command] = of("RUN")
    assert command.startswith("pip install --no-cache-dir --constraint constraints.txt ")
    [extras] = re.findall(r'"\.\[([\w,]+)\]"', command)
    assert set(extras.split(",")) <= set(setup["options.extras_require"])
