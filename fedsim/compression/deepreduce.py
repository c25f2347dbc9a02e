"""DeepReduce: sparse updates whose indices travel in a Bloom filter (Xu et al., NeurIPS 2021)."""

from __future__ import annotations

from deltamask import codecs
from fedsim.compression.top_k import SparseCompressor, SparseSettings


class DeepReduceSettings(SparseSettings):
    """Parameters of :class:`DeepReduce`."""

    name: str = "deepreduce"


class DeepReduce(SparseCompressor):
    """The largest entries with their indices in a Bloom filter, under policy P0: a value for each of its positives.

    False positives thus cost bits, not accuracy: their true values are sent as well.
    """

    name, id, summary = "deepreduce", 69, "largest entries, indices in a Bloom filter, values of all its positives (P0)"
    Params = DeepReduceSettings
    codec = codecs.get("bloom")
