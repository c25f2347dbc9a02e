"""The plain loop that the simulator is timed against does the simulator's work."""

import pandas as pd

from fedsim.testing import run_rounds
from pipelines.benchmarks.engine import bare
from pipelines.benchmarks.engine.__main__ import table


def test_the_plain_loop_learns_what_the_simulator_does(small_config):
    config = small_config(
        *("rounds=2", "partition.clients=3", "head.name=joint", "method.name=fedavg"),
        *("data.validation=0", "data.train_samples=1437"),
    )
    simulated = [outcome.round["accuracy"] for outcome in run_rounds(config)[2][1:]]
    assert [row["accuracy"] for row in bare.run(config, 1)] == simulated
    assert simulated[1] > 0.3


def test_ratios_are_within_a_repeat_and_leave_the_first_round_out():
    rows = [
        {"system": system, "repeat": repeat, "round": index, "seconds": value if index > 1 else 99.0, "accuracy": 0.5}
        for system, values in {"bare, 1": (1.0, 2.0), "fedsim, 1": (2.0, 4.0)}.items()
        for repeat, value in enumerate(values)
        for index in (1, 2, 3)
    ]
    shown = table(pd.DataFrame(rows), "bare, 1")
    assert "| fedsim, 1 | 3000 ± 1414 | 2.00 ± 0.00 | 50.0 |" in shown
