"""Numbers that must not change: every method, head and compressor in small runs, against a committed file.

They are equal to the last bit on a machine like the one that wrote the file; elsewhere matrix products sum in another
order, and they are only close.

``python -m tests.unit.fedsim.engine.test_golden`` writes the file anew, for a change that is meant to change numbers.
"""

import json
from pathlib import Path

import pytest
import torch

from fedsim.config import load_config
from fedsim.engine import Federation, SerialExecutor

GOLDEN = Path(__file__).with_name("golden.json")
_SMALL = {
    "seed": 3,
    "rounds": 2,
    "participation": 0.6,
    "data": {"train_samples": 300, "test_samples": 200, "validation": 0},
    "partition": {"clients": 5},
    "model": {"masked_blocks": 1},
    "evaluate": {"also": ["expected", "sampled"]},
    "cluster": {"executor": "serial"},
}
#: Short training of the head, in the group of who trains it.
_PROBE = ["head.name=linear-probe", "head.epochs=5"]
_SHORT = {"linear-probe": [*_PROBE, "train.epochs=5"], "head fit": [], "head random": []}
PARTITIONS = {"iid": [], "dirichlet": ["partition.name=dirichlet", "partition.alpha=0.3"]}
EXPERIMENTS = {
    "deltamask": ["method.name=deltamask"],
    "deltamask cosine": ["method.name=deltamask", "method.kappa_schedule=cosine", "method.codec=range"],
    "deltamask-plus": [
        *("method.name=deltamask-plus", "method.forward=sampled", "method.deployed=mask", "method.weighting=samples"),
        *("train.lr=0.03", "train.logit_adjustment=null"),
    ],
    "fedpm": ["method.name=fedpm"],
    "fedmask": ["method.name=fedmask"],
    "fedavg": ["method.name=fedavg"],
    "fedavg none float16": ["method.name=fedavg", "method.compressor.dtype=float16"],
    "fedavg top-k": ["method.name=fedavg", "method.compressor.name=top-k", "method.error_feedback=true"],
    "fedavg momentum": ["method.name=fedavg", "method.server_momentum=0.5", "train.optimizer=sgd"],
    "qsgd": ["method.name=qsgd"],
    "drive": ["method.name=drive"],
    "eden": ["method.name=eden"],
    "deepreduce": ["method.name=deepreduce"],
    "lora": ["method.name=lora", "method.compressor.name=eden"],
    "bitfit": ["method.name=bitfit"],
    "linear-probe": ["method.name=linear-probe"],
    "head fit": ["head.name=fit"],
    "head random": ["head.name=random"],
}
COLUMNS = (
    *("state_digest", "participants", "uplink_bytes", "downlink_bytes", "flips", "false_flips"),
    *("accuracy", "loss", "accuracy_expected", "accuracy_sampled", "bound_share"),
)


def rounds_of(experiment: str, partition: str) -> list[dict]:
    """Rows of the rounds table, cut to what does not depend on the machine's speed."""
    short = _SHORT.get(experiment, _PROBE)
    config = load_config(_SMALL, [*EXPERIMENTS[experiment], *PARTITIONS[partition], *short])
    federation = Federation(config, SerialExecutor(config))
    rows = []
    while not federation.done:
        row = federation.run_round().round
        rows.append({column: row[column] for column in COLUMNS if column in row})
    return rows


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_numbers_are_those_of_the_committed_file(experiment, partition):
    golden = json.loads(GOLDEN.read_text())
    found, expected = rounds_of(experiment, partition), golden["rounds"][f"{experiment}, {partition}"]
    if golden["machine"] == _machine():
        assert found == expected
    for row, wanted in zip(found, expected, strict=True):
        assert row.keys() == wanted.keys()
        assert row["participants"] == wanted["participants"]
        assert row["accuracy"] == pytest.approx(wanted["accuracy"], abs=0.05)
        assert row["uplink_bytes"] == pytest.approx(wanted["uplink_bytes"], rel=0.1)


def _machine() -> str:
    """What the order of floating-point sums follows from."""
    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {_vendor()}"


def _vendor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "unknown")


def main() -> None:
    """Write the file."""
    rounds = {f"{e}, {p}": rounds_of(e, p) for e in EXPERIMENTS for p in PARTITIONS}
    GOLDEN.write_text(json.dumps({"machine": _machine(), "rounds": rounds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
