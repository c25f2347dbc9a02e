"""Gradient compressors: one file each plus its line here. Any method that sends dense updates takes any of them."""

from __future__ import annotations

import numpy as np

from deltamask import payload
from fedsim.compression.base import Compressor, check_end, read_array
from fedsim.compression.deepreduce import DeepReduce
from fedsim.compression.drive import Drive
from fedsim.compression.eden import Eden
from fedsim.compression.none import NoCompression
from fedsim.compression.qsgd import Qsgd
from fedsim.compression.top_k import TopK
from fedsim.registry import Registry
from fedsim.settings import CompressorSettings

__all__ = ["COMPRESSORS", "Compressor", "check_end", "compile_compressor", "make_compressor", "read_array"]

COMPRESSORS: Registry[type[Compressor]] = Registry(
    "method.compressor.name", [NoCompression, Qsgd, Drive, Eden, TopK, DeepReduce], base=Compressor
)
payload.KIND_NAMES.update({compressor.id: compressor.name for compressor in COMPRESSORS})


def make_compressor(params: CompressorSettings) -> Compressor:
    """The compressor that its parameters name."""
    return COMPRESSORS.get(params.name)(params)


def compile_compressor(params: CompressorSettings) -> None:
    """Call what is compiled at its first call, so that no later timing holds a compilation."""
    compressor = make_compressor(params)
    compressor.decode(compressor.encode(np.linspace(-1, 1, 64, dtype=np.float32), 0), 64, 0)
