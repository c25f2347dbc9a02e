"""The server: rounds of the strategy, evaluated here, and a file of what each gave."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import digits
import numpy as np
import torch
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from strategy import DeltaMask

import deltamask

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation and write its rounds to the file ``result``."""
    settings = context.run_config
    with np.load(str(settings["task"])) as task:
        net = digits.network([task[f"weight{index}"] for index in range(6)])
        test = torch.from_numpy(task["x_test"]), torch.from_numpy(task["y_test"])
    server = deltamask.Server(digits.probabilities(net.size), seed=digits.SEED, codec=digits.CODEC)
    digests: dict[int, str] = {}

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        digests[server_round] = digest(server)
        return MetricRecord({"accuracy": digits.accuracy(net, server.theta_d, test)})

    strategy = DeltaMask(server, int(settings["clients"]))
    result = strategy.start(grid, ArrayRecord(), int(settings["rounds"]), evaluate_fn=evaluate)
    rounds = {
        index: {
            "uplink_bytes": metrics["uplink_bytes"],
            "accuracy": result.evaluate_metrics_serverapp[index]["accuracy"],
            "state_digest": digests[index],
        }
        for index, metrics in result.train_metrics_clientapp.items()
    }
    Path(str(settings["result"])).write_text(json.dumps(rounds))


def digest(server: deltamask.Server) -> str:
    """The state's digest, as the simulator writes it: 16 hex digits of a SHA-256."""
    sha = hashlib.sha256()
    for name, array in sorted(server.probabilities.state().items()):
        sha.update(f"{name} {array.dtype} {array.shape}".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()[:16]
