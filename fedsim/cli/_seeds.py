"""The word ``seeds=3`` of ``fedsim run``: the same experiment with several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import yaml
from rich.console import Console

import results
from fedsim.config import Config, load_config
from fedsim.display import plain_table, size
from fedsim.errors import ConfigError
from fedsim.runner import RunResult


@dataclass(frozen=True)
class Seeds:
    """The seeds to run with: a number of them from that of the configuration on, or a list; none: its own alone."""

    given: int | tuple[int, ...] | None = None

    @classmethod
    def of(cls, arguments: Sequence[str] | None) -> tuple[list[str], Seeds]:
        """The other words of a command, and what its word ``seeds=...`` says.

        Raises:
            ConfigError: it is neither a number above 0 nor a list of different numbers.
        """
        words = list(arguments or ())
        chosen = [word for word in words if word.startswith("seeds=")]
        if not chosen:
            return words, cls()
        text = chosen[-1].partition("=")[2]
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = None
        listed = value if isinstance(value, list) else [value]
        whole = all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in listed)
        if not whole or not listed or value == 0 or len(set(listed)) < len(listed):
            raise ConfigError(f"seeds: found {text!r}, allowed: how many, or a list of seeds such as [0, 1]")
        given = tuple(value) if isinstance(value, list) else value
        return [word for word in words if word not in chosen], cls(given)

    def each(self, config: Config) -> list[Config]:
        """The configuration with each of the seeds."""
        if self.given is None:
            return [config]
        seeds = range(config.seed, config.seed + self.given) if isinstance(self.given, int) else self.given
        return [load_config({**config.model_dump(), "seed": seed}) for seed in seeds]


def show_seeds(console: Console, done: Sequence[RunResult]) -> None:
    """A line a seed, and mean and standard deviation over them."""
    table = plain_table("seed", "final", "bpp", "uplink", "downlink", "run")
    for result in done:
        row = result.row
        numbers = (f"{row['final_accuracy']:.3f}", f"{row['uplink_bpp']:.4f}")
        sizes = (size(row["uplink_bytes"]), size(row["downlink_bytes"]))
        table.add_row(str(row["seed"]), *numbers, *sizes, row["run_id"])
    console.print(table)
    from results import tables  # imports matplotlib

    [group] = tables.groups(results.load([one.path for one in done], tables=("runs",)).runs).to_dict("records")
    console.print(
        f"accuracy  {group['accuracy']:.3f} ± {group['accuracy_std']:.3f} over {group['runs']} seeds, "
        f"{group['uplink_bpp']:.4f} bpp",
        highlight=False,
    )
