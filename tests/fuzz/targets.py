"""What reads bytes that it did not write: each with messages that are right, and the errors that it may raise."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

import deltamask as dm
from deltamask import broadcast, codecs, payload
from deltamask.uploads import pack_relay, split_weight, unpack_relay
from fedsim.compression import COMPRESSORS
from fedsim.config import load_config
from fedsim.data import Decoder
from fedsim.data.images import Images
from fedsim.engine import Federation, make_model
from fedsim.engine._checkpoint import checkpoints, load_checkpoint, save_checkpoint
from fedsim.engine._client_states import ClientStates
from fedsim.errors import CheckpointError, ConfigError
from fedsim.methods import METHODS
from fedsim.sweeps import load_sweep
from fedsim.testing import run_rounds, small_config
from results import DamagedError, RunStore
from results.store import run_table
from tests.fuzz.sessions import sessions
from tests.fuzz.target import Target

D = 3000  # elements of the small messages


def targets(folder: Path, *, methods: bool = True) -> Iterator[Target]:
    """All readers.

    Args:
        folder: for files.
        methods: also those of methods, whose messages take a small run of each.
    """
    yield from _codecs()
    yield from _compressors()
    yield from _broadcasts()
    yield from sessions()
    yield from _files(folder)
    yield from _texts(folder)
    if methods:
        for method in METHODS:
            yield from _method(folder, method.name)


def _codecs() -> Iterator[Target]:
    rng = np.random.default_rng(0)
    sets = [np.sort(rng.choice(D, size, replace=False)).astype(np.uint64) for size in (0, 1, 30, 400)]
    theta_d = rng.uniform(0.01, 0.99, D).astype(np.float32)
    for name, codec in codecs.CODECS.items():
        plain = [codec.encode(indices, D) for indices in sets]
        given = [codec.encode_given(indices, theta_d, 7) for indices in sets]

        def parse(data: bytes, codec: codecs.Codec = codec) -> None:
            assert codec.decode(data, D).size <= D
            assert codec.decode_given(data, theta_d, 7).size <= D

        yield Target(f"codec {name}", 4, plain + given, parse, dm.PayloadError)


def _compressors() -> Iterator[Target]:
    vector_d = np.random.default_rng(0).standard_normal(D).astype(np.float32)
    for kind in COMPRESSORS:
        compressor = kind(kind.Params())

        def parse(data: bytes, compressor: Any = compressor) -> None:
            assert np.isfinite(compressor.decode(data, D, 3)).all()

        yield Target(f"compressor {kind.name}", 4, [compressor.encode(vector_d, 3)], parse, dm.PayloadError)


def _broadcasts() -> Iterator[Target]:
    rng = np.random.default_rng(0)
    start = dm.CoupledDifference(D, theta_init=0.95, clip=0.01, momentum=0.9)
    initial, moved = copy.deepcopy(start).state(), copy.deepcopy(start)
    sums = dm.RoundSums(rng.integers(-3, 4, D).astype(moved.sums_dtype), 5)
    step = broadcast.pack_sums(moved, sums)
    moved.apply(sums)

    def parse_state(data: bytes) -> None:
        broadcast.unpack_state(data, copy.deepcopy(start))

    yield Target("state", 4, [broadcast.pack_state(moved, initial)], parse_state, dm.PayloadError)
    yield Target("sums", 4, [step], lambda data: broadcast.unpack_sums(data, start), dm.PayloadError)
    relay = pack_relay(3, [(0, b"upload"), (7, rng.bytes(50))])
    yield Target("relay", 4, [relay], unpack_relay, dm.PayloadError)


def _files(folder: Path) -> Iterator[Target]:
    store = RunStore(str(folder), "run")
    state = {"theta": np.arange(D, dtype=np.float32), "next_round": np.array([3])}
    save_checkpoint(store, 3, state)
    [name] = checkpoints(store)
    path = Path(store.path, name)

    def parse_checkpoint(data: bytes) -> None:
        path.write_bytes(data)
        load_checkpoint(store, name, state, "varying.")

    yield Target("checkpoint", 1, [path.read_bytes()], parse_checkpoint, CheckpointError)

    states = ClientStates(str(folder), "run")
    states.write(0, 1, np.arange(D, dtype=np.float32))
    kept = Path(store.path, "kept", "0-1.bin")

    def parse_kept(data: bytes) -> None:
        kept.write_bytes(data)
        states.read(0, 1)

    yield Target("kept by a client", 1, [kept.read_bytes()], parse_kept, CheckpointError)

    store.write_run({"run_id": "run", "status": "finished"})
    row = Path(store.path, "run.parquet").read_bytes()
    yield Target("run.parquet", 0.5, [row], lambda data: run_table(data, "run.parquet"), DamagedError)

    shell = torch.nn.Linear(4, 3)
    weights = folder / "weights.safetensors"

    def parse_weights(data: bytes) -> None:
        from fedsim.models.checkpoint import load_weights

        weights.write_bytes(data)
        load_weights(shell, str(weights))

    yield Target("weights", 1, [save(dict(shell.state_dict()))], parse_weights, ConfigError)

    images = [Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)) for _ in range(2)]
    files = []
    for image, kind in zip(images, ("PNG", "JPEG"), strict=True):
        image.save(stream := io.BytesIO(), kind)
        files.append(stream.getvalue())
    decoder = Decoder(32, "bilinear", 1)
    yield Target("image", 1, files, lambda data: decoder(_OneImage(data), np.zeros(1, np.int64)), ())


class _OneImage(Images):
    def __init__(self, data: bytes) -> None:
        self._data = data

    def __len__(self) -> int:
        return 1

    def read(self, indices: np.ndarray) -> list[bytes]:
        return [self._data]

    def label(self, index: int) -> str:
        return "image"

    def fingerprint(self) -> str:
        return "none"


_CONFIG = b"""\
rounds: 3
seed: 1
data: {name: digits, train_samples: 100}
partition: {name: dirichlet, clients: 5, alpha: 0.1}
head: {name: ridge, compressor: {name: eden, rate: 4}}
method: {name: deltamask, kappa: 0.5, codec: "range"}
train: {epochs: 2, lr: 1.0e-2, logit_adjustment: null}
cluster: {executor: serial}
"""
_SWEEP = b"""\
base:
  rounds: 2
  data: &data {train_samples: 64}
space:
  method.name: {grid: [deltamask, eden]}
  train.lr: {loguniform: [0.03, 0.3]}
  method.kappa: {uniform: [0.2, 1.0], when: {method.name: deltamask}}
  seed: {grid: [0, 1]}
search: {trials: 2, sampler: random, objectives: {final_accuracy: max}, confirm: [1, 2]}
"""


def _texts(folder: Path) -> Iterator[Target]:
    for name, seed, load in (("configuration", _CONFIG, load_config), ("sweep", _SWEEP, load_sweep)):
        path = folder / f"{name}.yaml"

        def parse(data: bytes, path: Path = path, load: Callable[[Path], object] = load) -> None:
            path.write_bytes(data)
            load(path)

        yield Target(name, 1, [seed], parse, ConfigError)


def _method(folder: Path, name: str) -> Iterator[Target]:
    few = ("data.train_samples=80", "data.test_samples=20", "partition.clients=2", "data.validation=0")
    config = small_config(folder, f"method.name={name}", *few)
    executor, federation, _ = run_rounds(config)
    method = METHODS.get(name)
    client = method.client(config.method, config, make_model(config, classes=10))
    start = executor.broadcasts[1].full
    fresh = Federation(config, executor).servers["method"]
    fresh.adopt(start) if fresh.replayable else None
    uploads = [executor.uploads[1, index] for index in (0, 1)]

    def parse_upload(data: bytes) -> None:
        content, weight = split_weight(data, config.method.weighted)
        assert weight > 0
        fresh.decode(1, 0, content)

    yield Target(f"upload of {name}", 0.1, uploads, parse_upload, dm.PayloadError)
    yield Target(f"broadcast of {name}", 0.1, [start], client.receive, dm.PayloadError)
    if (delta := executor.broadcasts[2].delta) is not None:

        def parse_delta(data: bytes) -> None:
            client.receive_delta(data, client.receive(start))

        yield Target(f"delta of {name}", 0.1, [delta], parse_delta, dm.PayloadError)
    assert federation.done


@contextmanager
def without_checksums() -> Iterator[None]:
    """Have every checksum of a frame be right, so that changes reach what lies behind it."""
    real, payload.zlib = payload.zlib, _NoChecksums  # type: ignore[assignment]
    try:
        yield
    finally:
        payload.zlib = real


class _Any(int):
    def __ne__(self, other: object) -> bool:
        return False


class _NoChecksums:
    @staticmethod
    def crc32(data: bytes, value: int = 0) -> int:
        return _Any(0)
