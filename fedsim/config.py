"""The whole experiment as typed, validated data: YAML in, dotted overrides, JSON out."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from fedsim.errors import ConfigError
from fedsim.registry import suggestion


class Group(BaseModel):
    """Base of all configuration groups: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_values(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads ``yes`` as a truth value, which would pass for the number 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError(f"found {value!r}, allowed: another type than a truth value")
        return value


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


def explain_errors(error: ValidationError, group: type[Group]) -> str:
    """A line for each error: field, what was found, what is allowed."""
    return "\n".join(line for item in error.errors() for line in _explain(item, group))


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Change a nested mapping by ``"key=value"``, with a dotted key and a YAML value.

    Raises:
        ConfigError: it is not of that form, or the key leads through a value.
    """
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"override: found {override!r}, allowed: key=value with a dotted key")
    try:
        assign(tree, key, yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ConfigError(f"{key}: found {text!r}, allowed: a YAML value ({error})") from error


def read_yaml(path: Path) -> Any:
    """The nested mapping of a YAML file. Raises ConfigError where there is none."""
    try:
        tree = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"config: expected a YAML file at {str(path)!r}, found {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"config: expected YAML in {str(path)!r}, found {error}") from error
    if tree is not None and not isinstance(tree, dict):
        raise ConfigError(f"config: expected keys and values in {str(path)!r}, found {type(tree).__name__}")
    return tree or {}


def assign(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key of a nested mapping. Raises ConfigError where the key leads through a value."""
    keys = key.split(".")
    *parents, last = keys
    for depth, parent in enumerate(parents):
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{'.'.join(keys[: depth + 1])}: found {child!r}, allowed: a group of keys")
        tree = child
    tree[last] = value


def named_group(value: Any, find: Callable[[str], type[Group]], default: str) -> Any:
    """Validate a group by the parameters of the member that its key ``name`` names.

    Args:
        value: what a configuration gives for the group.
        find: parameters of the member of a name; raises ValueError when there is none.
        default: the name when none is given.

    Raises:
        ValueError: an unknown name or an invalid parameter.
    """
    if isinstance(value, Group):
        value = value.model_dump()
    if not isinstance(value, Mapping):
        return value
    name = value.get("name", default)
    if not isinstance(name, str):
        raise ValueError(f"name: found {name!r}, allowed: text")
    try:
        params = find(name)
    except ValueError as error:
        raise ValueError(f"name: {error}") from None
    try:
        return params.model_validate({**value, "name": name})
    except ValidationError as error:
        raise _GroupError(params, error.errors()) from None


class _GroupError(ValueError):
    """Errors of a group that is validated by a model of its own."""

    def __init__(self, group: type[Group], errors: list[Any]) -> None:
        super().__init__(f"{len(errors)} invalid values")
        self.group, self.errors = group, errors


def _group_of(annotation: Any) -> Any:
    """The group that a field holds, perhaps optionally or in a mapping."""
    inner = [argument for argument in get_args(annotation) if argument not in (str, type(None))]
    return _group_of(inner[0]) if inner else annotation


def _explain(item: Any, group: type[BaseModel], prefix: tuple[str, ...] = ()) -> list[str]:
    """A validation error as lines of: field, what was found, what is allowed."""
    path = tuple(str(part) for part in item["loc"])
    field = ".".join(prefix + path) or "config"
    if item["type"] == "extra_forbidden":
        for key in path[:-1]:
            if key in group.model_fields:  # else it is a key of a mapping to groups
                group = _group_of(group.model_fields[key].annotation)
        known = list(group.model_fields)
        allowed = ", ".join(".".join((*prefix, *path[:-1], key)) for key in known)
        return [f"{field}: unknown key{suggestion(path[-1], known)} (allowed: {allowed})"]
    if item["type"] == "value_error":
        error = item["ctx"]["error"]
        if isinstance(error, _GroupError):
            return [line for nested in error.errors for line in _explain(nested, error.group, prefix + path)]
        return [f"{field}: {error}" if str(error).startswith("found") else f"{field}.{error}"]
    allowed = item["msg"].replace("Input should be", "").replace("a valid ", "").strip()
    if item["type"] == "model_type":
        allowed = "a group of keys"
    return [f"{field}: found {item['input']!r}, allowed: {allowed}"]
