"""DeltaMask with what saves bits at the same accuracy: an exact conditional coder, coupled differences, fewer flips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from deltamask.delta import Selection
from fedsim.methods.codecs import CodecName
from fedsim.methods.deltamask import DeltaMask, DeltaMaskSettings


class DeltaMaskPlusSettings(DeltaMaskSettings):
    """Parameters of :class:`DeltaMaskPlus`: those of DeltaMask with other defaults."""

    name: str = "deltamask-plus"
    kappa: float = Field(0.3, gt=0, le=1, description="share of the changed mask bits to send, by selection")
    selection: Selection = Field(
        "gain-per-bit",
        description="which to send: by relative entropy for each bit that the codec spends, kl or random",
    )
    aggregation: Literal["posterior", "coupled-difference"] = Field(
        "coupled-difference", description="theta moved by the mean mask difference, or the paper's Beta posterior"
    )
    server_momentum: float = Field(0.9, ge=0, le=0.99, description="momentum of coupled differences at the server")
    weighting: Literal["uniform", "samples"] = Field(
        "samples", description="weights of the clients in coupled differences; the posterior counts all alike"
    )
    codec: CodecName = Field("range", description="how the indices are written")


class DeltaMaskPlus(DeltaMask):
    """The recommended preset: the same masks, trained by normalised SGD, aggregated and coded for fewer bits."""

    name = "deltamask-plus"
    summary = "DeltaMask with an exact conditional coder, coupled differences and normalised SGD: far fewer bits"
    Params: ClassVar[type[DeltaMaskSettings]] = DeltaMaskPlusSettings
    train_defaults: ClassVar[Mapping[str, Any]] = {"optimizer": "normalized-sgd", "lr": 0.03}
