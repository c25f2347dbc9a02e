"""DeltaMask with what saves bits or gives accuracy for none: expected weights, coupled differences, an exact coder."""

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
    forward: Literal["sampled", "expected"] = Field(
        "expected", description="network of a training step: each weight times its probability, or a mask drawn anew"
    )
    deployed: Literal["mask", "expected"] = Field(
        "expected", description="model to keep: each weight times its probability, or the mean mask theta > 0.5"
    )
    kappa: float = Field(0.3, gt=0, le=1, description="share of the changed mask bits to send, by selection")
    selection: Selection = Field(
        "gain-per-bit",
        description="which to send: by relative entropy for each bit that the codec spends, kl or random",
    )
    aggregation: Literal["posterior", "coupled-difference"] = Field(
        "coupled-difference", description="theta moved by the mean mask difference, or the paper's Beta posterior"
    )
    server_momentum: float = Field(0.9, ge=0, le=0.99, description="momentum of coupled differences at the server")
    codec: CodecName = Field("range", description="how the indices are written")


class DeltaMaskPlus(DeltaMask):
    """The recommended preset: the same masks, trained as expected weights by normalised SGD, coded for fewer bits."""

    name = "deltamask-plus"
    summary = "DeltaMask with expected weights, coupled differences, normalised SGD and an exact coder: far fewer bits"
    Params: ClassVar[type[DeltaMaskSettings]] = DeltaMaskPlusSettings
    train_defaults: ClassVar[Mapping[str, Any]] = {
        "optimizer": "normalized-sgd",
        "lr": 0.01,
        "logit_adjustment": 0.5,
    }
