"""The size of an experiment before it is run: two rounds of one client are computed, all else is counted."""

from __future__ import annotations

import resource
import tempfile
from dataclasses import dataclass

import numpy as np

from fedsim.config import Config, load_config
from fedsim.data import load_dataset
from fedsim.data.partition import make_partition
from fedsim.engine._executors import SerialExecutor
from fedsim.engine._federation import Federation
from fedsim.engine._rows import RoundOutcome

_TEST_SAMPLES = 256  # that the client's models are evaluated on


@dataclass(frozen=True)
class Estimate:
    """The size of an experiment.

    Attributes:
        masked_parameters, parameters: d, and those of the whole network.
        weights: where the backbone's weights came from.
        training_samples: of all clients.
        client_samples: of the median client; the one that was computed has as many.
        uploads, broadcasts: bytes of one client in round 0, which fits the head, and in round 1.
        client_seconds: its training and encoding in round 1.
        feature_bytes: stored features of all training samples, where they fit the feature store.
        peak_bytes: of this process's memory, which held one worker and the server.
    """

    masked_parameters: int
    parameters: int
    weights: str
    training_samples: int
    client_samples: int
    uploads: tuple[int, int]
    broadcasts: tuple[int, int]
    client_seconds: float
    feature_bytes: int
    peak_bytes: int


def estimate(config: Config) -> Estimate:
    """The size of an experiment, from one client with as many samples as the median one, whose labels are drawn IID.

    Nothing is stored. Uploads of later rounds differ from those of round 1, as a rule they are smaller.

    Raises:
        FedsimError: as a run would.
    """
    dataset = load_dataset(config.data, config.seed)
    sizes = make_partition(dataset, config.partition, config.seed).sizes()
    samples = max(1, int(np.median(sizes)))
    content = config.model_dump(exclude={"world", "on_client_error", "min_clients"})
    drawn = min(len(dataset.train), round(samples / (1 - config.data.validation)))
    content["data"] |= {
        "train_samples": max(drawn, 2),
        "test_samples": min(len(dataset.test), config.data.test_samples or _TEST_SAMPLES, _TEST_SAMPLES),
    }
    with tempfile.TemporaryDirectory(prefix="fedsim-dry-run-") as folder:
        content |= {"partition": {"name": "iid", "clients": 1}, "participation": 1.0, "output": f"{folder}/runs"}
        content["cluster"] |= {"executor": "serial", "feature_store": f"{folder}/features"}
        executor = SerialExecutor(one := load_config(content))
        federation = Federation(one, executor)
        rounds = [federation.run_round() for _ in range(2)]
        features, _ = executor.trainer.samples("train", np.arange(1))
        executor.close()
    model = federation.model
    stored = features[0].numel() * (2 if config.model.feature_dtype == "float16" else 4)
    return Estimate(
        federation.dimension,
        sum(parameter.numel() for parameter in [*model.backbone.parameters(), *model.head.parameters()]),
        federation.weights,
        int(sizes.sum()),
        samples,
        _bytes(rounds, "payload_bytes"),
        _bytes(rounds, "downlink_bytes"),
        rounds[1].clients[0]["train_seconds"] + rounds[1].clients[0]["encode_seconds"],
        stored * len(dataset.train),
        1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    )


def _bytes(rounds: list[RoundOutcome], column: str) -> tuple[int, int]:
    first, second = (outcome.clients[0][column] for outcome in rounds)
    return first, second
