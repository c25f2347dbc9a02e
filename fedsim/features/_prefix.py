"""Prefix features of a split: from the node's store, or computed each time where they do not fit."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fedsim.config import Config
from fedsim.data import Decoder, Images
from fedsim.data.images import digest
from fedsim.errors import DataError
from fedsim.features._resident import Resident
from fedsim.features._room import open_store
from fedsim.features._store import BLOCK, Built, Compute, FeatureStore
from fedsim.features._views import Views
from fedsim.models import TaskModel

_NAMED = 5  # corrupt images that a message names
_RARE = 0.1  # participation up to which features are computed when they are first needed
_SMALL = 64 * 10**6  # bytes
_SINGLE = 64  # images that are then computed at a time: a pass is of so many, whoever needs which


class PrefixFeatures:
    """Features of the images of one split by the frozen prefix.

    Args:
        config: the experiment.
        model: computes the features.
        images: of the split.
        beside: features of another split, which have their part of ``cluster.gpu_features_gb`` first.
        all_needed: whether all images will be, as those of a test split are; clients' are not where few take part.
        views: augmented ones of the images, where there are; rows of features are then numbered as they say.

    Attributes:
        warnings: what was tolerated.
        resident_bytes: size of the features that may stay in memory, this split's and the other's.
    """

    def __init__(
        self,
        config: Config,
        model: TaskModel,
        images: Images,
        *,
        beside: PrefixFeatures | None = None,
        all_needed: bool = True,
        views: Views | None = None,
    ) -> None:
        self._config, self._model, self._images = config, model, images
        self._augmentation = views.augmentation if views is not None else None
        self._kept = len(images) * (views.kept if views is not None else 1)  # rows; those beyond are computed each time
        self._lazy = not all_needed and config.participation <= _RARE
        backbone = model.backbone
        self._decoder = Decoder(
            backbone.input_size, backbone.interpolation, max(1, math.floor(config.cluster.cpus_per_worker))
        )
        self._dtype = np.dtype(config.model.feature_dtype)
        self.warnings: list[str] = []
        self._found: set[str] = set()  # images that could not be decoded for views of a round
        if views is not None and views.anew and len(backbone.prefix) > 1:
            self.warnings.append(
                "data.augment without data.views: the frozen prefix runs on each client's images in each round"
            )
        self._root = Path(config.cluster.feature_store or _default_root()).expanduser()
        size = backbone.input_size
        self._shape = tuple(model.prefix_features(np.zeros((1, size, size, 3), np.uint8)).shape[1:])
        self._store = self._feature_store()
        self.resident_bytes: int = beside.resident_bytes if beside is not None else 0
        self._resident: Resident | None = None
        size_bytes = self._kept * math.prod(self._shape) * self._dtype.itemsize
        # What is evaluated is read in each round, so a little of it stays on CPUs too.
        bound = _SMALL * all_needed if model.device.type == "cpu" else config.cluster.gpu_features_gb * 1e9
        if self.resident_bytes + size_bytes <= bound:
            self.resident_bytes += size_bytes
            self._resident = Resident(self._kept, self._shape, self._dtype, model.device)

    def prepare(self) -> Built:
        """Complete the store, together with all processes of this node that are at it; without one, decode all images.

        Where few images are needed, they are computed as they are, and those that cannot be decoded are found then.

        Raises:
            DataError: more images than ``data.max_corrupt`` allows cannot be decoded.
        """
        if self._store is None:
            built = Built(0, self._undecodable())
        else:
            built = Built(0, self._store.corrupt()) if self._lazy else self._store.build()
        self._check(built.corrupt, len(self._images))
        return built

    def ready(self) -> tuple[int, int] | None:
        """Images whose features are in the store, and all; None without a store, or where few are needed."""
        return None if self._store is None or self._lazy else (self._store.ready(), len(self._images))

    def complete(self, rows: np.ndarray) -> None:
        """Compute those of some images that are needed and not there, together.

        Raises:
            DataError: with them, more images than ``data.max_corrupt`` allows cannot be decoded.
        """
        rows = rows[rows < self._kept]
        if self._lazy and self._store is not None and self._store.complete(rows):
            self._check(self._store.corrupt(), len(self._images))

    def __call__(self, rows: np.ndarray) -> Tensor:
        """Features of some images, float32 on the model's device."""
        if rows.size and rows.max() >= self._kept:  # new views of a round
            return self._to_device(self._computed_anew(rows))
        if self._resident is not None:
            return self._resident(rows, self._read).float()
        return self._to_device(self._read(rows))

    def _to_device(self, features: np.ndarray) -> Tensor:
        return torch.from_numpy(features).to(self._model.device).float()

    def _read(self, rows: np.ndarray) -> np.ndarray:
        if self._store is not None:
            self.complete(rows)
            return self._store.read(rows)
        return np.concatenate([self._compute(part)[0] for part in _blocks(rows)])

    def _computed_anew(self, rows: np.ndarray) -> np.ndarray:
        parts = [self._compute(part) for part in _blocks(rows)]
        corrupt = {name for _, names in parts for name in names}
        if self._lazy and not corrupt <= self._found:  # else :meth:`prepare` has looked at all of them
            self._found |= corrupt
            self._check(sorted(self._found), len(self._images))
        return np.concatenate([features for features, _ in parts])

    def _undecodable(self) -> list[str]:
        """Names of the images that cannot be decoded: a store of a byte an image shares the work."""

        def decode(rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
            return np.ones((len(rows), 1), np.uint8), self._decoder(self._images, rows)[1]

        with suppress(PermissionError):
            store = self._open(f"{self._key()}-decoded", len(self._images), (1,), np.dtype(np.uint8), decode, BLOCK)
            if store is not None:
                return store.build().corrupt
        return [name for part in _blocks(np.arange(len(self._images))) for name in decode(part)[1]]

    def _compute(self, rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
        samples, views = rows % len(self._images), rows // len(self._images)
        pixels, corrupt = self._decoder(self._images, samples)
        if self._augmentation is not None:
            pixels = self._augmentation(pixels, samples, views)
        if not self._lazy:
            return self._model.prefix_features(pixels).cpu().numpy().astype(self._dtype), corrupt
        parts = [self._one_pass(pixels[start : start + _SINGLE]) for start in range(0, len(rows), _SINGLE)]
        return np.concatenate(parts), corrupt

    def _one_pass(self, pixels: np.ndarray) -> np.ndarray:
        padded = np.concatenate([pixels, np.zeros((_SINGLE - len(pixels), *pixels.shape[1:]), np.uint8)])
        return self._model.prefix_features(padded)[: len(pixels)].cpu().numpy().astype(self._dtype)

    def _check(self, corrupt: list[str], images: int) -> None:
        if not corrupt:
            return
        named = ", ".join(corrupt[:_NAMED]) + (", ..." if len(corrupt) > _NAMED else "")
        if len(corrupt) > self._config.data.max_corrupt * images:
            raise DataError(
                f"data.max_corrupt: found {len(corrupt)} of {images} images that cannot be decoded ({named}), "
                f"allowed: a share of {self._config.data.max_corrupt}"
            )
        self.warnings.append(f"{len(corrupt)} of {images} images cannot be decoded and count as plain grey: {named}")

    def _feature_store(self) -> FeatureStore | None:
        root, shape = self._root, self._shape
        gigabytes = self._kept * math.prod(shape) * self._dtype.itemsize / 1e9
        try:
            store = self._open(self._key(), self._kept, shape, self._dtype, self._compute, 1 if self._lazy else BLOCK)
            reason = (
                f"{gigabytes:.1f} GB do not fit into cluster.feature_store_gb="
                f"{self._config.cluster.feature_store_gb:g}, or on the disk"
            )
        except PermissionError as error:
            store, reason = None, f"{error.filename} is another user's; give a folder as cluster.feature_store"
        if store is None:
            self.warnings.append(
                f"prefix features are not kept in {root}: {reason}: they are computed anew in each round "
                "(model.feature_dtype=float16 halves them)"
            )
        return store

    def _open(
        self, key: str, rows: int, shape: tuple[int, ...], dtype: np.dtype, compute: Compute, block: int
    ) -> FeatureStore | None:
        limit = int(self._config.cluster.feature_store_gb * 1e9)
        return open_store(self._root, key, rows, shape, dtype, compute, limit, block)

    def _key(self) -> str:
        backbone = self._model.backbone
        preprocessing = (backbone.input_size, backbone.interpolation, backbone.mean, backbone.std)
        device = self._model.device.type
        if device != "cpu":
            device += torch.get_float32_matmul_precision()
        passes = f"checksummed singly {_SINGLE}" if self._lazy else "checksummed"
        text = f"{passes} {self._images.fingerprint()} {preprocessing} {self._dtype} {device} {torch.__version__}"
        weights = [np.atleast_1d(tensor.cpu().numpy()) for tensor in backbone.prefix.state_dict().values()]
        if self._kept > len(self._images):
            text += f" {self._kept} {self._augmentation}"
        return digest(f"{text} {backbone.prefix!r}".encode(), *weights)


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]


def _default_root() -> str:
    return os.path.join(os.environ.get("FEDSIM_CACHE", "~/.cache/fedsim"), "features")
