"""The same federation in the simulator: writes the task that the nodes take, and what each round gave."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from fedsim.config import load_config
from fedsim.data import load_dataset
from fedsim.data.partition import make_partition
from fedsim.engine import Federation, SerialExecutor


def main(folder: Path, rounds: int, clients: int) -> None:
    config = load_config(
        {
            "rounds": rounds,
            "seed": 0,
            "data": {"name": "digits", "validation": 0},
            "partition": {"name": "dirichlet", "clients": clients, "alpha": 1.0},
            "model": {"name": "mlp", "size": 8, "hidden": [256, 256]},
            "head": {"name": "joint"},
            "method": {"name": "deltamask", "theta_init": 0.5, "kappa": 0.8, "codec": "fuse8+png"},
            "train": {"epochs": 2, "batch_size": 32, "lr": 0.1, "optimizer": "adam"},
            "cluster": {"executor": "serial", "feature_store": str(folder / "features")},
            "output": str(folder / "runs"),
        }
    )
    executor = SerialExecutor(config)
    federation = Federation(config, executor)
    found = [federation.run_round().round for _ in range(rounds + 1)][1:]
    columns = ("uplink_bytes", "accuracy", "state_digest")
    (folder / "simulated.json").write_text(json.dumps({r["round"]: {name: r[name] for name in columns} for r in found}))
    dataset, arrays = load_dataset(config.data, config.seed), {}
    partition = make_partition(dataset, config.partition, config.seed)
    everything = {str(client): ("train", partition.indices(client)) for client in range(clients)}
    everything["_test"] = ("test", np.arange(len(dataset.test)))
    for name, (split, rows) in everything.items():
        x, y = executor.trainer.samples(split, rows)
        arrays |= {f"x{name}": x.numpy(), f"y{name}": y.numpy()}
    for index, parameter in enumerate(federation.model.network.parameters()):
        arrays[f"weight{index}"] = parameter.detach().numpy()
    np.savez(folder / "task.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
