"""Options of the chaos tests, and the record that they leave."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest

import fedsim
import results
from fedsim.provenance import describe_machine, git_commit
from results import tables
from tests.chaos.case import EXPERIMENTS

_ROWS = pytest.StashKey[list[dict[str, Any]]]()
_SHOWN = ["fault", "storage", "cases", "identical", "lost clients", "commands", "seconds"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(metafunc.config.getoption("--seeds")))


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, results.Results]:
    """What every case must end as, by experiment: runs in this process that nothing disturbs."""
    output = tmp_path_factory.mktemp("calm")
    overrides = ("cluster.executor=serial", f"output={output}")
    return {
        name: fedsim.run(fedsim.load_config(None, [*keys, *overrides])).load() for name, keys in EXPERIMENTS.items()
    }


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Adds a row to the record."""
    return lambda **row: request.config.stash.setdefault(_ROWS, []).append(row)


@pytest.fixture(scope="session", autouse=True)
def _write(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    folder, rows = request.config.getoption("--record"), request.config.stash.get(_ROWS, [])
    if folder is None or not rows:
        return
    folder.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(rows).assign(git_commit=git_commit(), machine=f"{describe_machine()}, {platform.release()}")
    frame.to_parquet(folder / "chaos.parquet", index=False)
    groups = frame.groupby(["fault", "storage"], sort=False)
    shown = groups.agg(
        cases=("seed", "size"),
        identical=("identical", "sum"),
        lost=("lost_clients", "sum"),
        commands=("commands", "mean"),
        seconds=("seconds", "mean"),
    ).reset_index()
    shown = shown.rename(columns={"lost": "lost clients"}).round({"commands": 1, "seconds": 0})[_SHOWN]
    (folder / "table.md").write_text(tables.to_markdown(shown.astype(str)))
