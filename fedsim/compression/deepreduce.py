"""DeepReduce: sparse updates whose indices travel in a Bloom filter (Xu et al., NeurIPS 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from deltamask import codecs
from fedsim.compression.qsgd import Qsgd, QsgdSettings
from fedsim.compression.top_k import SparseCompressor, SparseSettings


class DeepReduceSettings(SparseSettings):
    """Parameters of :class:`DeepReduce`."""

    name: str = "deepreduce"
    values: Literal["float", "qsgd"] = Field("float", description="how values are written: as floats, or by QSGD")
    levels: int = Field(256, ge=1, le=65_536, description="levels s between 0 and the norm of 512 values")

    only_with: ClassVar[Mapping[str, tuple[str, tuple[Any, ...]]]] = {
        "dtype": ("values", ("float",)),
        "levels": ("values", ("qsgd",)),
    }


class DeepReduce(SparseCompressor):
    """The largest entries with their indices in a Bloom filter, under policy P0: a value for each of its positives.

    False positives thus cost bits, not accuracy: their true values are sent as well. Values are floats or go through
    one of the paper's value compressors, QSGD (Alistarh et al., NeurIPS 2017). The curves that the paper fits to sorted
    values are left out: they need the permutation, of ``log2(n)`` bits a value.
    """

    name, id, summary = "deepreduce", 69, "largest entries, indices in a Bloom filter, values of all its positives (P0)"
    Params = DeepReduceSettings
    params: DeepReduceSettings
    codec = codecs.get("bloom")

    def __init__(self, params: DeepReduceSettings) -> None:
        super().__init__(params)
        self._qsgd = Qsgd(QsgdSettings(levels=params.levels)) if params.values == "qsgd" else None

    def encode_values(self, values_n: np.ndarray, key: int) -> bytes:
        return self._qsgd.encode(values_n, key) if self._qsgd else super().encode_values(values_n, key)

    def decode_values(self, body: memoryview, count: int, key: int) -> np.ndarray:
        return self._qsgd.decode(bytes(body), count, key) if self._qsgd else super().decode_values(body, count, key)
