"""FedEx-LoRA: low-rank factors are averaged, and what this misses of the mean of their products joins the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from fedsim.methods.base import MethodServer
from fedsim.methods.lora import Lora, LowRankNetwork, LowRankSettings
from fedsim.methods.updates import CompressedUpdates, DenseClient, known_start
from fedsim.methods.wire import pack_changed, unpack_changed
from fedsim.models import TaskModel
from fedsim.settings import Experiment


class FedExLoraSettings(LowRankSettings):
    """Parameters of :class:`FedExLora`: those of LoRA, without what else a server may do to the mean update."""

    name: str = "fedex-lora"


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


class _Client(DenseClient[FedExLoraSettings]):
    """States hold ``vector``, ``residual`` and the head's arrays."""

    _net: ResidualNetwork

    def __init__(self, params: FedExLoraSettings, experiment: Experiment, model: TaskModel, net: Any) -> None:
        super().__init__(params, experiment, model, net, _start(model, net))

    def load(self, state: Any) -> Tensor:
        self._net.residual_d.copy_(torch.tensor(state["residual"]))
        return super().load(state)


def _start(model: TaskModel, net: ResidualNetwork) -> dict[str, np.ndarray]:
    return known_start(model, net, residual=np.zeros(net.residual_d.shape, np.float32))


class _Server(MethodServer[FedExLoraSettings]):
    def __init__(self, params: FedExLoraSettings, experiment: Experiment, model: TaskModel, net: Any) -> None:
        super().__init__(params, experiment, model)
        self._net: ResidualNetwork = net
        self._start = _start(model, net)
        self._vector_d, self._residual_d = self._start["vector"], self._start["residual"]
        self._compressed = CompressedUpdates(params.compressor, experiment.seed, "compression", self._vector_d.size)
        self._begin()

    def _begin(self) -> None:
        self._vectors: list[np.ndarray] = []
        self._weights: list[int] = []

    def broadcast(self) -> bytes:
        state = {"vector": self._vector_d, "residual": self._residual_d, **self.model.head_state()}
        return pack_changed(state, self._start)

    @property
    def replayable(self) -> bool:
        return True

    def adopt(self, broadcast: bytes) -> None:
        received = unpack_changed(broadcast, self._start)
        self.model.load_head(received)
        self.restore(received)

    def decode(self, round_index: int, client: int, payload: bytes) -> np.ndarray:
        return self._vector_d + self._compressed.decode(payload, round_index, client)

    def accumulate(self, decoded: np.ndarray, weight: int) -> None:
        self._vectors.append(decoded)
        self._weights.append(weight)

    def finish_round(self) -> None:
        self._vector_d, residual_d = self._net.aggregate(self._vectors, self._weights)
        self._residual_d = self._residual_d + residual_d
        self._begin()

    def state(self) -> dict[str, np.ndarray]:
        return {"vector": self._vector_d, "residual": self._residual_d}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._vector_d, self._residual_d = state["vector"].copy(), state["residual"].copy()


class FedExLora(Lora):
    """Singhal et al., "FedEx-LoRA: Exact Aggregation for Federated and Efficient Fine-Tuning" (ACL 2025).

    Clients train A and B as in LoRA; the server averages them, and adds ``mean(B_k A_k) - mean(B) mean(A)`` to the
    frozen weights, so that the network is that with the mean of the clients' products. The residual of K clients has a
    rank of up to K * r, which is what exactness costs: clients must learn of it. Those that have the state before are
    relayed the uploads of the round, from which they derive means and residual, where that is shorter than these as
    dense arrays; others get the sum of all residuals so far. Relaying shows clients what the others sent; the residual
    that the paper broadcasts shows their products.
    """

    name = "fedex-lora"
    summary = (
        "low-rank updates; factors averaged by samples, and what that misses of their products added to the weights"
    )
    Params: ClassVar[type[LowRankSettings]] = FedExLoraSettings
    Network: ClassVar[type[LowRankNetwork]] = ResidualNetwork
    Client, Server = _Client, _Server
