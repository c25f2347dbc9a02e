"""The workflows and the release: they do what the Makefile can, and a version is the same wherever it is written."""

import configparser
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in FOLDER.glob("*.yml")}
JOBS = [(f"{name}.{job}", content) for name, flow in WORKFLOWS.items() for job, content in flow["jobs"].items()]
notes = runpy.run_path(str(ROOT / ".github" / "release_notes.py"))["notes"]


@pytest.fixture
def setup():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def test_every_supported_python_is_tested(setup):
    versions = WORKFLOWS["test"]["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert versions == ["3.10", "3.11", "3.12", "3.13"]
    assert setup["options"]["python_requires"] == f">={versions[0]}"


@pytest.mark.parametrize(("name", "job"), JOBS, ids=[name for name, _ in JOBS])
def test_jobs_end_use_known_actions_and_targets_and_need_jobs_that_are_there(name, job):
    jobs = WORKFLOWS[name.split(".")[0]]["jobs"]
    assert job.get("needs", name.split(".")[1]) in jobs
    if "uses" in job:
        assert (ROOT / job["uses"]).is_file()
        return
    assert job["timeout-minutes"] <= 60
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for step in job["steps"]:
        assert re.fullmatch(r"(actions|pypa)/[\w-]+@[\w./]+", step.get("uses", "actions/none@v1"))
        if step.get("run", "").startswith("make "):
            assert step["run"].split()[1] in targets
        for path in re.findall(r"python (\S+\.py)", step.get("run", "")):
            assert (ROOT / path).is_file()


def test_what_is_published_is_what_the_tests_made():
    made = {step["with"]["name"] for name, job in JOBS for step in job.get("steps", ()) if "upload-" in str(step)}
    taken = {step["with"]["name"] for name, job in JOBS for step in job.get("steps", ()) if "download-" in str(step)}
    assert taken == {"packages", "notes"} <= made


def test_only_jobs_that_publish_may_write():
    assert all(flow["permissions"] == {"contents": "read"} for flow in WORKFLOWS.values())
    writing = {name: job["permissions"] for name, job in JOBS if "permissions" in job}
    assert writing == {"release.publish": {"id-token": "write"}, "release.release": {"contents": "write"}}


def test_the_version_is_the_same_everywhere(setup):
    version = setup["metadata"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == version


def test_notes_are_the_section_of_the_tag():
    text = "# Changelog\n\n## 0.3.0 (unreleased)\n\n- c\n\n## 0.2.0 (2026-11-30)\n\n### A\n\n- b\n\n## 0.1.0\n\n- a\n"
    assert notes("v0.2.0", text, "0.2.0") == "### A\n\n- b\n"
    assert notes("v0.1.0", text, "0.1.0") == "- a\n"
    for tag, version, message in (
        ("v0.2.1", "0.2.0", "allowed: v0.2.0"),
        ("v0.3.0", "0.3.0", "a heading with a date"),
        ("v0.4.0", "0.4.0", "no section 0.4.0"),
    ):
        with pytest.raises(ValueError, match=message):
            notes(tag, text, version)


def test_a_wrong_tag_ends_the_release():
    command = [sys.executable, ".github/release_notes.py", "v999"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "tag: found v999" in done.stderr
