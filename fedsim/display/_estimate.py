"""The size of a run that was not computed, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from fedsim.config import Config
from fedsim.display._tables import plain_table, size

if TYPE_CHECKING:
    from fedsim.engine import Estimate


def estimate_table(config: Config, found: Estimate) -> Table:
    """The table that ``fedsim run --dry-run`` shows."""
    cohort, (head_up, up), (head_down, down) = config.cohort_size, found.uploads, found.broadcasts
    cluster, d = config.cluster, found.masked_parameters
    workers = f"{cluster.workers or 'as many as fit,'} each {cluster.cpus_per_worker:g} CPU"
    table = plain_table("run", config.run_id)
    for name, value in (
        ("clients", f"{config.partition.clients:,}, {cohort:,} a round; {found.client_samples:,} samples, median"),
        ("samples", f"{found.training_samples:,} of all clients"),
        ("network", f"{found.parameters:,} parameters, of which {d:,} masked; weights: {found.weights}"),
        ("round 0", f"{size(head_up)} up, {size(head_down)} down a client; {size(cohort * head_up)} up in all"),
        ("round 1", f"{size(up)} up ({8 * up / d:.4f} bpp), {size(down)} down a client; {size(cohort * up)} up in all"),
        (
            "rounds",
            f"about {size(cohort * (head_up + config.rounds * up))} up in {config.rounds:,} such rounds",
        ),
        ("time", f"{found.client_seconds:.2f} s for a client of round 1 here, on {cluster.cpus_per_worker:g} CPU"),
        ("features", f"{size(found.feature_bytes)} on disk, of at most {cluster.feature_store_gb:g} GB"),
        ("memory", f"{size(found.peak_bytes)} at the peak, for a worker and the server in one process"),
        ("workers", workers + (f", {cluster.gpus_per_worker:g} GPU" if cluster.gpus_per_worker else "")),
    ):
        table.add_row(name, value)
    return table
