"""The keys that all members of a kind have; a member adds its own in its own file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from fedsim.settings._settings import Settings, unless_default


class DataSettings(Settings):
    """The dataset."""

    name: str = Field("digits", description="dataset")
    train_samples: int | None = Field(None, ge=1, description="use only so many training samples, always the same")
    test_samples: int | None = Field(None, ge=1, description="use only so many test samples, always the same")
    validation: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share of training samples that no client has, by seed: for tuning and choosing",
    )
    max_corrupt: float = Field(0.001, ge=0, le=1, description="share of undecodable images that is tolerated")
    augment: tuple[Literal["flip", "crop", "randaugment"], ...] = Field(
        (),
        description="random changes of the images that clients train on, in this order: other ones in each round",
        json_schema_extra=unless_default,
    )
    views: int | None = Field(
        None,
        ge=2,
        le=1000,
        description="keep so many views of each training image, itself and augmented ones, and train on one of them",
        json_schema_extra=unless_default,
    )

    @model_validator(mode="after")
    def _views_are_augmented(self) -> DataSettings:
        if len(set(self.augment)) < len(self.augment):
            raise ValueError(f"augment: found {list(self.augment)!r}, allowed: each change once")
        if self.views is not None and not self.augment:
            raise ValueError(f"views: found {self.views}, allowed: none, unless data.augment has changes")
        return self

    @property
    def augments_anew(self) -> bool:
        """Whether clients see new views of their images in each round, whose features cannot be kept."""
        return bool(self.augment) and self.views is None

    def prefix_passes(self, first: bool) -> int:
        """Passes of each of a client's images through the frozen prefix in a round, its first one or a later one."""
        return 1 if self.augments_anew else (self.views or 1) * first


class PartitionSettings(Settings):
    """The split of the training samples over clients."""

    name: str = Field("iid", description="how training samples are split over clients")
    clients: int = Field(10, ge=1, le=10_000_000, description="registered clients")


class ModelSettings(Settings):
    """The frozen backbone."""

    name: str = Field("tiny-vit", description="backbone")
    masked_blocks: int = Field(5, ge=0, le=1000, description="last blocks whose weight matrices are trained")
    mask_biases: bool = Field(False, description="also train the biases and scales of these blocks")
    feature_dtype: Literal["float32", "float16"] = Field(
        "float32", description="precision of stored prefix features: float16 halves the disk and rounds to 3 digits"
    )


class PhaseSettings(Settings):
    """Keys of what a run's rounds do: of heads and of methods."""

    @property
    def weighted(self) -> bool:
        """Whether clients count by their training samples, whose number each then sends with its upload."""
        return False


class HeadSettings(PhaseSettings):
    """The classifier head."""

    name: str = Field("ridge", description="how the classifier head is fitted in round 0")


class MethodSettings(PhaseSettings):
    """The federated method."""

    name: str = Field("deltamask", description="federated method")

    @property
    def cut(self) -> str | None:
        """The key by which the aggregate leaves out what is extreme; None where it does not."""
        return None

    @property
    def depends_on_rounds(self) -> bool:
        """Whether a round depends on how many there are to be, so that a finished run cannot go on for more."""
        return False


class CompressorSettings(Settings):
    """The compressor of a method's dense updates."""

    name: str = Field("none", description="how a dense update is written")


class TrainSettings(Settings):
    """Local training at a client."""

    epochs: int = Field(1, ge=1, le=10_000, description="local epochs a round")
    batch_size: int = Field(64, ge=1, le=1_000_000, description="samples a step")
    lr: float = Field(0.1, gt=0, le=1000, description="learning rate; some methods have a default of their own")
    optimizer: Literal["adam", "sgd", "normalized-sgd"] = Field(
        "adam", description="optimiser, fresh each round; normalized-sgd divides the gradient by its global RMS"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of the sgd optimisers")
    precision: Literal["float32", "tf32", "bf16"] = Field(
        "float32",
        description="rounding of matrix products in training and evaluation: tf32 on GPUs alone, bf16 by autocast",
    )
    logit_adjustment: float | None = Field(
        None, gt=0, le=1e6, description="samples a class added to the client's before their log shares join the logits"
    )
    together: int = Field(
        1,
        ge=1,
        le=10_000,
        description="clients of a worker that are trained at once, each on its own: for small networks",
        json_schema_extra=unless_default,
    )
    compile: bool = Field(
        False,
        description="compile the network of full batches by torch.compile; takes a C++ compiler, and seconds at start",
        json_schema_extra=unless_default,
    )

    only_with: ClassVar[Mapping[str, tuple[str, tuple[Any, ...]]]] = {
        "momentum": ("optimizer", ("sgd", "normalized-sgd")),
        "compile": ("together", (1,)),
    }

    @classmethod
    def with_defaults(cls, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """A method's training keys, without those that a key which is given makes meaningless."""
        merged = {**defaults, **given}
        for name, (key, values) in cls.only_with.items():
            if name not in given and merged.get(key, cls.model_fields[key].default) not in values:
                merged.pop(name, None)
        return merged


class EvaluateSettings(Settings):
    """Evaluation; it changes what is known of a run, and how it learns only where clients hold out samples."""

    every: int = Field(
        1, ge=1, le=1_000_000, description="rounds from one evaluation to the next; round 0 and the last have one too"
    )
    also: tuple[Literal["expected", "sampled"], ...] = Field(
        (),
        description="of mask methods, test accuracies beside that of the model to keep: weights theta * w, or one draw",
    )
    batch_size: int = Field(
        128,
        ge=1,
        le=1_000_000,
        description="samples that are evaluated at once; more are faster for small networks",
        json_schema_extra=unless_default,
    )
    clients: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of its own samples that each client holds out of training, to evaluate models on",
        json_schema_extra=unless_default,
    )

    def due(self, round_index: int, rounds: int) -> bool:
        """Whether a round is evaluated; round 0 always is."""
        return round_index % self.every == 0 or round_index == rounds


class ClusterSettings(Settings):
    """The machines that compute clients: they change the speed, not results (but for rounding with other threads)."""

    executor: Literal["ray", "serial"] = Field("ray", description="ray, or serial in this process for debugging")
    workers: int | None = Field(None, ge=1, le=100_000, description="worker actors; as many as fit when not given")
    cpus_per_worker: float = Field(1.0, gt=0, le=4096, description="CPUs of a worker, also its threads")
    gpus_per_worker: float = Field(0.0, ge=0, le=64, description="GPU share of a worker; above 0 it computes on CUDA")
    gpu_features_gb: float = Field(
        4.0, ge=0, description="prefix features that a worker keeps in its GPU's memory; those beyond it are sent there"
    )
    start_seconds: float = Field(300.0, gt=0, le=86_400, description="time for workers to start before the run fails")
    py_modules: tuple[str, ...] = Field(
        (),
        description="folders of packages and .py files that are copied to the nodes of RAY_ADDRESS's cluster",
        json_schema_extra=unless_default,
    )
    feature_store: str | None = Field(
        None, description="node-local folder of prefix features; $FEDSIM_CACHE/features or ~/.cache/fedsim/features"
    )
    feature_store_gb: float = Field(50.0, ge=0, description="its bound in GB; data beyond it is computed each time")
    checkpoint_seconds: float = Field(
        10.0, ge=0, le=86_400, description="least time between two checkpoints; 0 for one after each round"
    )
    checkpoint_rounds: int | None = Field(
        None, ge=1, le=1_000_000, description="rounds from one checkpoint to the next, whatever their time"
    )
    keep_checkpoint: bool = Field(
        False, description="keep the last state of a finished run, from which a run of more rounds goes on"
    )
    client_seconds: float | None = Field(
        None,
        gt=0,
        le=86_400,
        description="time for one client or an evaluation; a slower worker is replaced (executor ray)",
    )
    round_seconds: float | None = Field(
        None,
        gt=0,
        le=31_536_000,
        description="time for a round's clients, or its evaluation, before the run fails",
    )
    max_attempts: int = Field(3, ge=1, le=100, description="times a client is computed before lost workers end the run")

    @field_validator("gpus_per_worker")
    @classmethod
    def _shareable(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError(f"found {value!r}, allowed: at most 1, or a whole number")
        return value
