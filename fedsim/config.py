"""The whole experiment as typed, validated data: the one place that knows every registry."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PrivateAttr,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from fedsim.errors import ConfigError
from fedsim.provenance import content_digest, source_digest
from fedsim.registry import Registry, trust_only
from fedsim.settings import (
    MOVED,
    Catalogue,
    ClusterSettings,
    DataSettings,
    EvaluateSettings,
    HeadSettings,
    LogSettings,
    MethodSettings,
    ModelSettings,
    PartitionSettings,
    PrivacySettings,
    Settings,
    TrainSettings,
    WorldSettings,
    apply_override,
    assign,
    check_keys,
    check_size,
    explain_errors,
    read_yaml,
    unless_default,
    validate_member,
)

#: Groups and keys that never change a result: a run's name leaves them out.
NO_RESULT = ("output", "cluster", "log")


def registries() -> dict[str, Registry[Any]]:
    """The members of every kind, by the group of keys (or the key) that chooses one."""
    # Imported here: they import torch, and reading results or printing help needs none of it.
    from fedsim.compression import COMPRESSORS
    from fedsim.data import DATASETS
    from fedsim.data.partition import PARTITIONERS
    from fedsim.heads import HEADS
    from fedsim.methods import CODECS, METHODS
    from fedsim.models import BACKBONES

    return {
        "data": DATASETS,
        "partition": PARTITIONERS,
        "model": BACKBONES,
        "head": HEADS,
        "method": METHODS,
        "method.compressor": COMPRESSORS,
        "method.codec": CODECS,
    }


def catalogue() -> Catalogue:
    """All keys and members, as kept or as the code has them."""
    found = Catalogue.kept()
    if found is None:
        found = Catalogue.of(Config, registries())
        found.keep()
    return found


class Config(Settings):
    """A whole experiment."""

    seed: int = Field(0, ge=0, lt=2**63, description="seed of everything random")
    rounds: int = Field(20, ge=1, le=1_000_000, description="training rounds, after the head's round 0")
    participation: float = Field(1.0, gt=0, le=1, description="share of the clients in each round's cohort")
    on_client_error: Literal["fail", "drop"] = Field(
        "fail",
        description="where a client raises, diverges or sends what does not decode: end the run, or leave it out",
    )
    min_clients: int = Field(1, ge=1, description="clients that a round needs when others are dropped")
    output: str = Field("runs", description="folder of all runs, a local path or an s3:// or gs:// URI")
    data: Annotated[SerializeAsAny[DataSettings], Field(validate_default=True)] = DataSettings()
    partition: Annotated[SerializeAsAny[PartitionSettings], Field(validate_default=True)] = PartitionSettings()
    model: Annotated[SerializeAsAny[ModelSettings], Field(validate_default=True)] = ModelSettings()
    head: Annotated[SerializeAsAny[HeadSettings], Field(validate_default=True)] = HeadSettings()
    method: Annotated[SerializeAsAny[MethodSettings], Field(validate_default=True)] = MethodSettings()
    train: TrainSettings | None = Field(None, description="local training; absent where a method needs none")
    evaluate: EvaluateSettings = Field(default_factory=EvaluateSettings)
    world: WorldSettings = Field(WorldSettings(), json_schema_extra=unless_default)
    privacy: PrivacySettings = Field(PrivacySettings(), json_schema_extra=unless_default)
    cluster: ClusterSettings = Field(default_factory=ClusterSettings)
    log: LogSettings = Field(LogSettings(), json_schema_extra=unless_default)
    _contents: dict[str, str] = PrivateAttr(default_factory=dict)  # digests of files and code by dotted key

    @model_validator(mode="before")
    @classmethod
    def _train_as_the_method_does(cls, value: Any) -> Any:
        """Give training keys that are left out what suits the method; refuse them where it does not train by steps."""
        if not isinstance(value, Mapping):
            return value
        method, train = value.get("method", {}), value.get("train")
        name = method.get("name", cls.model_fields["method"].default.name) if isinstance(method, Mapping) else None
        name = method.name if isinstance(method, MethodSettings) else name
        train = train.model_dump() if isinstance(train, TrainSettings) else train
        if not isinstance(name, str) or not (train is None or isinstance(train, Mapping)):
            return value  # the fields' own validators report it
        try:
            defaults = registries()["method"].get(name).train_defaults
        except ValueError:
            return value
        if defaults is not None:
            return {**value, "train": TrainSettings.with_defaults(defaults, train or {})}
        if train is not None:
            raise ValueError(f"train: found {dict(train)!r}, allowed: none, as {name} does not train by steps")
        return value

    @field_validator("data", "partition", "model", "head", "method", mode="before")
    @classmethod
    def _keys_of_the_member(cls, value: Any, info: ValidationInfo) -> Any:
        group = str(info.field_name)
        return validate_member(value, registries()[group], cls.model_fields[group].default.name)

    @model_validator(mode="after")
    def _what_the_method_can_do(self) -> Config:
        methods = registries()["method"]
        together = self.train.together if self.train is not None else 1
        if together > 1 and not methods.get(self.method.name).Client.trains_together():
            able = ", ".join(method.name for method in methods if method.Client.trains_together())
            raise ValueError(f"train.together: found {together}, allowed: 1, or a method of: {able}")
        self.world.check(self.cohort_size, self.on_client_error, methods, self.method.name)
        if self.privacy.on:
            from fedsim.methods.privacy import check_privacy

            check_privacy(self.privacy, methods, self.method, self.train)
        if self.privacy.noisy:
            self.world.check_uniform("privacy")
        return self

    @field_validator("output", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return os.path.expanduser(value) if isinstance(value, (str, os.PathLike)) else value

    @field_validator("output")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        scheme, found, place = value.partition("://")
        if not value or (found and (scheme not in ("s3", "gs", "file") or not place.strip("/"))):
            raise ValueError(f"found {value!r}, allowed: a local path or an s3://BUCKET, gs://BUCKET or file:// URI")
        return value

    @model_validator(mode="after")
    def _look_at_contents(self) -> Config:
        found = {key: content_digest(path) for key, path in self.paths().items()}
        found |= {key: source_digest(name) for key, name in self._imported().items()}
        self._contents = {key: digest for key, digest in found.items() if digest is not None}
        return self

    def _imported(self) -> dict[str, str]:
        """Names of the form ``package.module:Class`` by the dotted key that has them."""
        content, found = self.model_dump(mode="json"), {}
        for registry in registries().values():
            value: Any = content
            for part in registry.field.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
            if isinstance(value, str) and registry.imports(value):
                found[registry.field] = value
        return found

    @property
    def cohort_size(self) -> int:
        """Clients in each round: ``participation`` of all, at least one."""
        return max(1, round(self.participation * self.partition.clients))

    @property
    def run_id(self) -> str:
        """Name of the run, from all keys that can change its results: not :data:`NO_RESULT`.

        Of datasets and checkpoints in files, the content counts and not the path, as it was when the configuration was
        made; of own code, the source of the module. Where they cannot be read, their names count.
        """
        content = {key: value for key, value in self.result_keys().items() if key not in NO_RESULT}
        named = {group: getattr(self, group).name for group in ("method", "data", "model")}
        for key in self._contents.keys() & self.paths().keys():
            assign(content, key, None)  # wherever it is
            if (group := key.removesuffix(".name")) in named:
                named[group] = named[group].rpartition(":")[0]
        content["contents"] = self._contents
        digest = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=5).hexdigest()
        names = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(named.values()))
        return f"{names}-s{self.seed}-{digest}"


def load_config(
    source: str | os.PathLike[str] | Mapping[str, Any] | None = None, overrides: Iterable[str] = ()
) -> Config:
    """A validated configuration from a YAML file or a mapping, and dotted overrides.

    Args:
        source: path of a YAML file, a nested mapping, or None for the defaults.
        overrides: ``"key=value"`` with dotted keys, e.g. ``"partition.alpha=0.1"``; values are YAML.

    Raises:
        ConfigError: a file that is missing or not YAML, an unknown key or an invalid value.
    """
    if source is None or isinstance(source, Mapping):
        check_size(source)
        tree: Any = copy.deepcopy(dict(source or {}))
    else:
        tree = read_yaml(source)
        if tree.keys() & {"base", "space"} and not tree.keys() & Config.model_fields.keys():
            raise ConfigError(f"config: found a sweep in {os.fspath(source)!r}, allowed: a run; fedsim sweep runs it")
    for override in overrides:
        apply_override(tree, override)
    check_size(tree)
    check_keys(tree)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain_errors(error, Config, MOVED)) from None


def load_stored_config(content: Mapping[str, Any], overrides: Iterable[str] = (), *, trust: bool = False) -> Config:
    """A configuration that was stored with a run, which somebody else may have written.

    Args:
        content: the stored mapping.
        overrides: as for :func:`load_config`. Code that one of them names, ``method.name=package.module:Class``, may be
            imported; other code may not.
        trust: import whatever code it names.

    Raises:
        ConfigError: also for code that is not to be imported.
    """
    overrides = list(overrides)
    if trust:
        return load_config(content, overrides)
    named = (name for override in overrides for name in re.split(r"[\[\]\s,'\"]+", override.partition("=")[2]))
    with trust_only(named):
        return load_config(content, overrides)
