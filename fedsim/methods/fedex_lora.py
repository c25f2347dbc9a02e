"""FedEx-LoRA: low-rank factors are averaged, and what this misses of the mean of their products joins the weights."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from deltamask import payload
from deltamask.payload import PayloadError
from fedsim.methods.base import ClientTask, Forward, MethodClient, MethodServer, Trained
from fedsim.methods.dense import CompressedUpdates, DenseClient
from fedsim.methods.lora import Lora, LoraSettings, LowRankNetwork
from fedsim.methods.wire import pack_tensors, unpack_tensors
from fedsim.models import TaskModel
from fedsim.settings import Experiment

_ROUND = struct.Struct("<I")
_UPLOAD = struct.Struct("<III")  # client, weight, bytes

#: A client, its weight in the mean and the message that it sent.
Upload = tuple[int, int, bytes]


class FedExLoraSettings(LoraSettings):
    """Parameters of :class:`FedExLora`."""

    name: str = "fedex-lora"
    server_lr: float = Field(1.0, ge=1, le=1, description="fixed, as the mean of products is what is exact")
    server_momentum: float = Field(0.0, ge=0, le=0, description="none, likewise")


class ResidualNetwork(LowRankNetwork):
    """A frozen network whose chosen weights W become ``W + residual + scale * B A``; all A and B are one vector.

    Arguments are those of :class:`LowRankNetwork`.

    Attributes:
        residual_d: the residuals of all chosen weights, float32 of shape ``(sum of rows * columns,)``; zeros at first.
    """

    residual_d: Tensor

    def __init__(self, module: nn.Module, names: list[str], rank: int, scale: float, key: int) -> None:
        super().__init__(module, names, rank, scale, key)
        self._sizes = [rows * columns for rows, columns in self.shapes]
        self.register_buffer("residual_d", torch.zeros(sum(self._sizes)), persistent=False)

    def changes(self, weights_d: Tensor) -> Iterator[Tensor]:
        pairs = zip(super().changes(weights_d), self.residual_d.split(self._sizes), strict=True)
        return (change + residual.view(change.shape) for change, residual in pairs)

    def aggregate(self, vectors: list[np.ndarray], weights: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """The mean of the clients' factors, and the mean of their products less the product of the means.

        Returns:
            float32 of shape ``(n,)`` as the vectors are, and float32 of shape ``(sum of rows * columns,)``.
        """
        mean_d = np.average(vectors, axis=0, weights=weights).astype(np.float32)
        residual_d = -self._products(mean_d)
        for vector_d, weight in zip(vectors, weights, strict=True):
            residual_d += weight / sum(weights) * self._products(vector_d)
        return mean_d, residual_d.astype(np.float32)

    def _products(self, vector_d: np.ndarray) -> np.ndarray:
        """``scale * B A`` of all chosen weights, float64: residuals are small differences of these."""
        products = super().changes(torch.from_numpy(vector_d).double())
        return torch.cat([product.flatten() for product in products]).numpy()


def pack_uploads(round_index: int, uploads: Iterable[Upload], size: int) -> bytes:
    """A round's uploads as one message, for whoever has the state before it; ``size`` is that of the vector."""
    body = [_ROUND.pack(round_index)]
    for client, weight, message in uploads:
        body += [_UPLOAD.pack(client, weight, len(message)), message]
    return payload.pack(payload.UPLOADS, size, b"".join(body))


def unpack_uploads(data: bytes, size: int) -> tuple[int, list[Upload]]:
    """Round and uploads of :func:`pack_uploads`. Raises PayloadError when the bytes are none."""
    body = bytes(payload.unpack(data, payload.UPLOADS, size))
    uploads: list[Upload] = []
    start = _ROUND.size
    while start < len(body):
        if len(body) < (begin := start + _UPLOAD.size):
            raise PayloadError(f"uploads: expected at least {begin} bytes, found {len(body)}")
        client, weight, length = _UPLOAD.unpack_from(body, start)
        if len(body) < (start := begin + length) or not weight:
            raise PayloadError(f"uploads: expected {start} bytes and a weight, found {len(body)} and {weight}")
        uploads.append((client, weight, body[begin:start]))
    if not uploads:
        raise PayloadError(f"uploads: expected at least one, found {len(body)} bytes")
    return int(_ROUND.unpack_from(body)[0]), uploads


def _packed_bytes(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Length of a message of float32 tensors, which follows from their names and shapes."""
    return len(pack_tensors({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}))


class _Client(DenseClient):
    """States hold ``vector``, the head's arrays and, once there is one, ``residual``."""

    _net: ResidualNetwork

    def __init__(self, params: FedExLoraSettings, experiment: Experiment, model: TaskModel, net: Any) -> None:
        super().__init__(params, experiment, model, net)
        self._dense = {"vector": (self._compressed.size,), "residual": tuple(net.residual_d.shape)}
        self._full = {**self._dense, **model.head_shapes()}
        self._first = {name: shape for name, shape in self._full.items() if name != "residual"}

    def receive(self, broadcast: bytes) -> Any:
        is_first = len(broadcast) == _packed_bytes(self._first)
        return unpack_tensors(broadcast, self._first if is_first else self._full)

    def receive_delta(self, delta: bytes, state: Any) -> Any:
        if len(delta) == _packed_bytes(self._dense):
            return {**state, **unpack_tensors(delta, self._dense)}
        round_index, uploads = unpack_uploads(delta, self._compressed.size)
        vectors = [state["vector"] + self._compressed.decode(data, round_index, client) for client, _, data in uploads]
        vector_d, residual_d = self._net.aggregate(vectors, [weight for _, weight, _ in uploads])
        return {**state, "vector": vector_d, "residual": state.get("residual", 0) + residual_d}

    def _load(self, state: Any) -> None:
        self._net.residual_d.copy_(torch.tensor(state.get("residual", 0.0)))

    def train(self, state: Any, task: ClientTask) -> Trained:
        self._load(state)
        return super().train(state, task)

    def evaluations(self, state: Any, round_index: int) -> dict[str, Callable[[], Forward]]:
        prepare = super().evaluations(state, round_index)["mean"]

        def mean() -> Forward:
            self._load(state)
            return prepare()

        return {"mean": mean}


class _Server(MethodServer[FedExLoraSettings]):
    def __init__(self, params: FedExLoraSettings, experiment: Experiment, model: TaskModel, net: Any) -> None:
        super().__init__(params, experiment, model)
        self._net: ResidualNetwork = net
        self._vector_d = net.weights_d.cpu().numpy()
        self._residual_d = net.residual_d.cpu().numpy()
        self._compressed = CompressedUpdates(params, experiment.seed, self._vector_d.size)
        self._delta: bytes | None = None
        self._begin()

    def _begin(self) -> None:
        self._uploads: list[Upload] = []
        self._vectors: list[np.ndarray] = []

    def broadcast(self) -> bytes:
        residual = {"residual": self._residual_d} if self._residual_d.any() else {}
        return pack_tensors({"vector": self._vector_d, **residual, **self.model.head_state()})

    def delta(self) -> bytes | None:
        return self._delta

    def decode(self, round_index: int, client: int, payload: bytes) -> tuple[int, int, bytes, np.ndarray]:
        update_d = self._compressed.decode(payload, round_index, client)
        return round_index, client, payload, self._vector_d + update_d

    def accumulate(self, decoded: tuple[int, int, bytes, np.ndarray], samples: int) -> None:
        self._round, client, message, vector_d = decoded
        self._uploads.append((client, samples if self.params.weighting == "samples" else 1, message))
        self._vectors.append(vector_d)

    def finish_round(self) -> None:
        self._vector_d, residual_d = self._net.aggregate(self._vectors, [weight for _, weight, _ in self._uploads])
        self._residual_d = self._residual_d + residual_d
        # The residual has the rank of all uploads together: up to some number of clients these are shorter.
        uploads = pack_uploads(self._round, self._uploads, self._vector_d.size)
        dense = pack_tensors({"vector": self._vector_d, "residual": self._residual_d})
        self._delta = min(dense, uploads, key=len)
        self._begin()

    def state(self) -> dict[str, np.ndarray]:
        return {"vector": self._vector_d, "residual": self._residual_d}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._vector_d, self._residual_d = state["vector"].copy(), state["residual"].copy()
        self._delta = None


class FedExLora(Lora):
    """Singhal et al., "FedEx-LoRA: Exact Aggregation for Federated and Efficient Fine-Tuning" (ACL 2025).

    Clients train A and B as in LoRA; the server averages them, and adds ``mean(B_k A_k) - mean(B) mean(A)`` to the
    frozen weights, so that the network is that with the mean of the clients' products. The residual of K clients has a
    rank of up to K * r, which is what exactness costs: clients must learn of it. Those that have the state before get
    the uploads of the round, from which they derive means and residual, or these as dense arrays where that is shorter.
    Others get the sum of all residuals so far, as dense as the weights. Passing uploads on shows clients what the
    others sent; the residual that the paper broadcasts shows their products.
    """

    name = "fedex-lora"
    summary = (
        "low-rank updates; factors averaged by samples, and what that misses of their products added to the weights"
    )
    Params: ClassVar[type[LoraSettings]] = FedExLoraSettings
    Network: ClassVar[type[LowRankNetwork]] = ResidualNetwork

    @classmethod
    def client(cls, params: Any, experiment: Experiment, model: TaskModel) -> MethodClient[Any]:
        return _Client(params, experiment, model, cls.flatten(params, experiment, model))

    @classmethod
    def server(cls, params: Any, experiment: Experiment, model: TaskModel) -> MethodServer[Any]:
        return _Server(params, experiment, model, cls.flatten(params, experiment, model))
