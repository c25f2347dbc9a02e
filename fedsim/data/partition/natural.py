"""A natural partition, by the values of a column of the dataset."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from fedsim.data.partition.base import Partitioner, Samples
from fedsim.errors import ConfigError
from fedsim.settings import PartitionSettings


class NaturalSettings(PartitionSettings):
    """Keys of :class:`Natural`."""

    column: str | None = Field(None, description="column of the dataset that says whose sample each is")


class Natural(Partitioner):
    """Samples by the values of ``partition.column``, each wholly at one client, which may have several."""

    name = "natural"
    summary = "by the values of partition.column of a dataset with columns, such as a writer or a camera"
    Params = NaturalSettings

    @classmethod
    def assign(cls, samples: Samples, params: NaturalSettings, rng: np.random.Generator) -> np.ndarray:
        if params.column is None:
            raise ConfigError("partition.column: found none, allowed: a column of the dataset")
        values, group = np.unique(samples.column(params.column), return_inverse=True)
        if params.clients > len(values):
            raise ConfigError(
                f"partition.clients: found {params.clients}, allowed: at most {len(values)}, "
                "the number of values of partition.column"
            )
        return (rng.permutation(len(values)) % params.clients)[group]
