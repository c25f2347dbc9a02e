"""The whole experiment as typed, validated data."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializeAsAny,
    ValidationError,
    field_validator,
    model_validator,
)

from fedsim.errors import ConfigError
from fedsim.settings._settings import Group, apply_override, explain_errors, named_group, read_yaml


class DataConfig(Group):
    """The dataset and its split over clients."""

    name: str = Field("digits", description="dataset; see `fedsim list`")
    path: str | None = Field(None, description="folder of the dataset; ~/.cache/fedsim/datasets for torchvision's")
    download: bool = Field(False, description="let torchvision download the dataset when it is not there")
    train_samples: int | None = Field(None, ge=1, description="use only so many training samples, always the same")
    test_samples: int | None = Field(None, ge=1, description="use only so many test samples, always the same")
    image_column: str | None = Field(None, description="column of a parquet dataset; image or img when not given")
    label_column: str | None = Field(None, description="column of a parquet dataset; label, ... when not given")
    group_column: str | None = Field(None, description="column of a parquet dataset for the natural partition")
    max_corrupt: float = Field(0.001, ge=0, le=1, description="share of undecodable images that is put up with")
    clients: int = Field(10, ge=1, le=10_000_000, description="registered clients")
    partition: str = Field("iid", description="how training samples are split; see `fedsim list`")
    alpha: float = Field(10.0, ge=1e-4, le=1e6, description="Dirichlet concentration: 10 near IID, 0.1 very skewed")
    labels_per_client: int = Field(2, ge=1, le=10_000, description="shards of one client in the shards partition")

    @field_validator("name")
    @classmethod
    def _known_dataset(cls, value: str) -> str:
        from fedsim.data import DATASETS

        return DATASETS.get(value).name

    @field_validator("partition")
    @classmethod
    def _known_partition(cls, value: str) -> str:
        from fedsim.data import PARTITIONERS

        return PARTITIONERS.get(value).name


class ModelConfig(Group):
    """The frozen backbone and its classifier head."""

    name: str = Field("tiny-vit", description="backbone; see `fedsim list`")
    checkpoint: str | None = Field(None, description="safetensors or weights-only torch file of the backbone")
    random_weights: bool = Field(False, description="run without pretrained weights; the runs table says so")
    masked_blocks: int = Field(5, ge=1, le=1000, description="last blocks whose weight matrices are trained")
    mask_biases: bool = Field(False, description="also train the biases and scales of these blocks")
    feature_dtype: Literal["float32", "float16"] = Field(
        "float32", description="precision of stored prefix features: float16 halves the disk and rounds to 3 digits"
    )
    head: str = Field("linear-probe", description="how the classifier head is fitted in round 0, then frozen")
    head_epochs: int = Field(20, ge=1, le=10_000, description="local epochs of linear probing")
    head_shrinkage: float = Field(0.1, ge=0, le=1, description="of the fit head's covariance towards the identity")
    head_lr: float = Field(0.03, gt=0, le=100, description="Adam learning rate of linear probing")

    @field_validator("name")
    @classmethod
    def _known_backbone(cls, value: str) -> str:
        from fedsim.models import BACKBONES

        BACKBONES.get(value)
        return value

    @field_validator("head")
    @classmethod
    def _known_head(cls, value: str) -> str:
        from fedsim.methods import HEADS

        return HEADS.get(value).name

    @model_validator(mode="after")
    def _one_source_of_weights(self) -> ModelConfig:
        if self.checkpoint is not None and self.random_weights:
            raise ValueError("random_weights: found true, allowed: false, since model.checkpoint is given")
        return self


class MethodConfig(Group):
    """The federated method; each method adds its own parameters to these."""

    name: str = Field("deltamask", description="method; see `fedsim list`")


class TrainConfig(Group):
    """Local training at a client."""

    epochs: int = Field(1, ge=1, le=10_000, description="local epochs a round")
    batch_size: int = Field(64, ge=1, le=1_000_000, description="samples a step")
    lr: float = Field(0.1, gt=0, le=1000, description="learning rate; some methods have a default of their own")
    optimizer: Literal["adam", "sgd", "normalized-sgd"] = Field(
        "adam", description="optimiser, fresh each round; normalized-sgd divides the gradient by its global RMS"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of the sgd optimisers")


class ClusterConfig(Group):
    """Where clients are computed: it changes the speed, not the results (but for rounding with other threads)."""

    executor: Literal["ray", "serial"] = Field("ray", description="ray, or serial in this process for debugging")
    workers: int | None = Field(None, ge=1, le=100_000, description="worker actors; as many as fit when not given")
    cpus_per_worker: float = Field(1.0, gt=0, le=4096, description="CPUs of a worker, also its threads")
    gpus_per_worker: float = Field(0.0, ge=0, le=64, description="GPU share of a worker; above 0 it computes on CUDA")
    start_seconds: float = Field(300.0, gt=0, le=86_400, description="time for workers to start before the run fails")
    feature_store: str | None = Field(
        None, description="node-local folder of prefix features; $FEDSIM_CACHE/features or ~/.cache/fedsim/features"
    )
    feature_store_gb: float = Field(50.0, ge=0, description="its bound in GB; data beyond it is computed each time")
    max_attempts: int = Field(3, ge=1, le=100, description="times a client is computed before lost workers end the run")

    @field_validator("gpus_per_worker")
    @classmethod
    def _shareable(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError(f"found {value!r}, allowed: at most 1, or a whole number")
        return value


class Config(Group):
    """A whole experiment."""

    seed: int = Field(0, ge=0, lt=2**63, description="seed of everything random")
    rounds: int = Field(20, ge=1, le=1_000_000, description="training rounds, after the head's round 0")
    participation: float = Field(1.0, gt=0, le=1, description="share of the clients in each round's cohort")
    output: str = Field("runs", description="folder of all runs, a local path or an s3:// or gs:// URI")
    data: DataConfig = Field(default_factory=DataConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    method: Annotated[SerializeAsAny[MethodConfig], Field(validate_default=True)] = MethodConfig()
    train: TrainConfig = Field(default_factory=TrainConfig)
    cluster: ClusterConfig = Field(default_factory=ClusterConfig)

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_method(cls, value: Any) -> Any:
        """Give training keys that are left out what suits the method."""
        from fedsim.methods import METHODS

        method = value.get("method") if isinstance(value, Mapping) else None
        name = method.get("name") if isinstance(method, Mapping) else getattr(method, "name", None)
        train = value.get("train", {}) if isinstance(value, Mapping) else None
        if not isinstance(name, str) or not isinstance(train, Mapping):
            return value
        try:
            return {**value, "train": {**METHODS.get(name).train_defaults, **train}}
        except ValueError:  # an unknown method, which its own validator reports
            return value

    @field_validator("output", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return os.path.expanduser(value) if isinstance(value, (str, os.PathLike)) else value

    @field_validator("output")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        scheme, found, _ = value.partition("://")
        if not value or (found and scheme not in ("s3", "gs", "file")):
            raise ValueError(f"found {value!r}, allowed: a local path or an s3://, gs:// or file:// URI")
        return value

    @field_validator("method", mode="before")
    @classmethod
    def _method_parameters(cls, value: Any) -> Any:
        """Validate the group by the parameters of the method that it names."""
        from fedsim.methods import METHODS

        return named_group(value, lambda name: METHODS.get(name).Params, "deltamask")

    @classmethod
    def describe_keys(cls) -> Iterator[tuple[str, Any, str]]:
        """Every dotted key outside ``method`` with its default and its description."""
        for name, info in cls.model_fields.items():
            group = info.annotation
            if not (isinstance(group, type) and issubclass(group, Group)):
                yield name, info.default, info.description or ""
            elif group is not MethodConfig:
                for key, nested in group.model_fields.items():
                    yield f"{name}.{key}", nested.default, nested.description or ""

    @property
    def cohort_size(self) -> int:
        """Clients in each round: ``participation`` of all, at least one."""
        return max(1, round(self.participation * self.data.clients))

    @property
    def run_id(self) -> str:
        """Name of the run, from all keys but those that do not change its results: ``output`` and ``cluster``.

        Of files, such as a checkpoint, the path counts and not the content.
        """
        content = self.model_dump(mode="json", exclude={"output", "cluster"})
        digest = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=5).hexdigest()
        names = "-".join((self.method.name, self.data.name, self.model.name))
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', names)}-s{self.seed}-{digest}"


def load_config(
    source: str | os.PathLike[str] | Mapping[str, Any] | None = None, overrides: Iterable[str] = ()
) -> Config:
    """A validated configuration from a YAML file or a mapping, and dotted overrides.

    Args:
        source: path of a YAML file, a nested mapping, or None for the defaults.
        overrides: ``"key=value"`` with dotted keys, e.g. ``"data.alpha=0.1"``; values are YAML.

    Raises:
        ConfigError: a file that is missing or not YAML, an unknown key or an invalid value.
    """
    if source is None or isinstance(source, Mapping):
        tree: Any = copy.deepcopy(dict(source or {}))
    else:
        tree = read_yaml(Path(source))
    for override in overrides:
        apply_override(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain_errors(error, Config)) from None
