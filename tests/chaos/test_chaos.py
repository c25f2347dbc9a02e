"""Whatever fails, the same command ends in the tables of the run that nothing disturbed."""

from __future__ import annotations

import random
import time

import pytest

import results
from tests.chaos.case import EXPERIMENTS, Case, differences
from tests.chaos.faults import FAULTS, LOCAL

#: Cases of `make test`; `make chaos` has all.
_SHORT = {("command killed", "s3"), ("second writer", "s3")}
_CASES = [
    pytest.param(fault, storage, marks=[] if (fault, storage) in _SHORT else pytest.mark.long)
    for fault in FAULTS
    for storage in ("local", "s3")
    if storage == "local" or fault not in LOCAL
]


@pytest.mark.parametrize(("fault", "storage"), _CASES)
def test_a_disturbed_run_equals_the_calm_one(fault, storage, seed, calm, tmp_path, object_store, record):
    name = f"{fault} {storage} {seed}"
    rng = random.Random(name)
    output = str(tmp_path / "runs") if storage == "local" else f"{object_store}/{name.replace(' ', '-')}"
    case = Case(rng.choice(sorted(EXPERIMENTS)), output, tmp_path, rng)
    started = time.monotonic()
    try:
        FAULTS[fault](case)
        case.finish()
    finally:
        case.close()
    wrong = differences(case.location, calm[case.experiment])
    found = results.load(case.location)
    record(
        fault=fault,
        storage=storage,
        seed=seed,
        experiment=case.experiment,
        happened=case.happened,
        commands=len(case.opened),
        exit_codes=", ".join(map(str, case.codes)),
        identical=not wrong,
        differences="; ".join(wrong),
        lost_clients=int(found.rounds["lost_clients"].sum()),
        retries=int(found.rounds["retries"].sum()),
        warnings=found.runs["warnings"].fillna("").iloc[0].replace(f"{tmp_path}/", ""),
        seconds=time.monotonic() - started,
    )
    assert not wrong, (case.happened, wrong)
