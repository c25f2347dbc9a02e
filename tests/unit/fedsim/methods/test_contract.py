"""Every method keeps to the contract, and so do combinations of methods, optimisers and compressors."""

import pytest

from fedsim.methods import METHODS
from fedsim.testing import MethodContract

VARIANTS = {
    "sparse fedavg": ["method.name=fedavg", "method.compressor.name=top-k", "method.error_feedback=true"],
    "fedavgm": ["method.name=fedavg", "method.server_momentum=0.5", "method.server_lr=0.5", "train.optimizer=sgd"],
    "eden 0.09": ["method.name=eden", "method.compressor.rate=0.09", "train.lr=1e-4"],
    "coarse downlink": ["method.name=fedavg", "method.downlink.name=eden", "method.server_momentum=0.5"],
    "eden momentum": ["method.name=eden", "method.server_momentum=0.5", "train.lr=1e-4"],
    # Few of the many steps of two methods whose time is in these.
    "fedkseed": ["method.name=fedkseed", "method.steps=3", "method.candidates=16", "method.batch_size=16"],
    "decomfl": ["method.name=decomfl", "method.steps=2", "method.perturbations=2", "method.batch_size=16"],
    "half lora": ["method.name=lora", "method.compressor.name=none", "method.compressor.dtype=float16"],
}


@pytest.mark.parametrize("variant", sorted({method.name for method in METHODS} | VARIANTS.keys()), scope="class")
class TestMethods(MethodContract):
    @pytest.fixture
    def overrides(self, variant):
        return VARIANTS.get(variant) or [f"method.name={variant}"]
