"""A method whose clients fail in the ways that clients do."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field

from fedsim.methods.fedavg import FedAvg, FedAvgSettings


def user_code():
    return 1 / 0


class FaultySettings(FedAvgSettings):
    fault: Literal["raise", "loss", "bytes", "gpu", "host"] = "raise"
    at: list[int] = Field(default_factory=lambda: [1])


class Faulty(FedAvg):
    """Clients ``method.at`` fail in round 1."""

    Params: ClassVar = FaultySettings

    class Client(FedAvg.Client):
        def train(self, state, task):
            trained = super().train(state, task)
            if task.round == 1 and task.client in self.params.at:
                if self.params.fault == "raise":
                    user_code()
                if self.params.fault == "gpu":
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
                if self.params.fault == "host":
                    raise MemoryError("cannot allocate")
                if self.params.fault == "loss":
                    return replace(trained, loss=float("nan"))
            return trained

        def encode(self, trained, state, task):
            update = super().encode(trained, state, task)
            if task.round == 1 and task.client in self.params.at and self.params.fault == "bytes":
                return replace(update, payload=update.payload[:-1])
            return update


class Hanging(FedAvg):
    """A client hangs in round 1: the first time, or each time."""

    class Params(FedAvgSettings):
        marker: str
        always: bool = False

    class Client(FedAvg.Client):
        def train(self, state, task):
            marker = Path(self.params.marker)
            if (task.round, task.client) == (1, 1) and (self.params.always or not marker.exists()):
                marker.touch()
                threading.Event().wait()
            return super().train(state, task)
