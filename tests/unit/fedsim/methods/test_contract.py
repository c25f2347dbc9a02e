"""Every method keeps to the contract, and so do combinations of methods, optimisers and compressors."""

import pytest

from fedsim.methods import METHODS
from fedsim.testing import MethodContract

VARIANTS = {
    "sparse fedavg": ["method.name=fedavg", "method.compressor.name=top-k", "method.error_feedback=true"],
    "fedavgm": ["method.name=fedavg", "method.server_momentum=0.5", "method.server_lr=0.5", "train.optimizer=sgd"],
    "eden 0.09": ["method.name=eden", "method.compressor.rate=0.09", "train.lr=1e-4"],
    "half lora": ["method.name=lora", "method.compressor.name=none", "method.compressor.dtype=float16"],
}


class TestMethods(MethodContract):
    @pytest.fixture(params=[*(method.name for method in METHODS), *VARIANTS], scope="class")
    def overrides(self, request):
        return VARIANTS.get(request.param) or [f"method.name={request.param}"]
