"""FedPM: clients train mask probabilities and send one sampled mask, entropy-coded."""

from __future__ import annotations

import torch
from pydantic import Field

import deltamask as dm
from fedsim.methods.base import ClientTask
from fedsim.methods.mask import MaskClient, MaskMethod, MaskState, WholeMaskServer
from fedsim.methods.mask_settings import MaskSettings
from fedsim.methods.wire import pack_mask

_CODEC = "arithmetic"


class FedPMSettings(MaskSettings):
    """Parameters of :class:`FedPM`."""

    name: str = "fedpm"
    reset_every: int | None = Field(1, ge=1, description="rounds between returns to the prior, as in the paper's code")


class _Client(MaskClient[FedPMSettings]):
    def encode(self, trained: torch.Tensor, state: MaskState, task: ClientTask) -> dm.Update:
        # Unlike DeltaMask's, this randomness is the client's own: the whole mask is sent.
        mask_d = dm.bernoulli_mask(trained, dm.stream_key(self.experiment.seed, "mask", task.round, task.client))
        return dm.Update(pack_mask(mask_d.cpu().numpy(), _CODEC))


class _Server(WholeMaskServer[FedPMSettings]):
    codec = _CODEC


class FedPM(MaskMethod):
    """Isik et al., "Sparse Random Networks for Communication-Efficient Federated Learning" (ICLR 2023).

    The paper's bitrate is the entropy of the mask; here it is the length of a real arithmetic code. Its scores start
    from N(0, 1) over random weights: ``method.scores_init=normal``. The optimiser is fresh each round; the paper's code
    keeps Adam's moments at each client.
    """

    name = "fedpm"
    summary = "probabilistic masks; sends one sampled mask through an arithmetic coder"
    Params = FedPMSettings
    Client, Server = _Client, _Server
