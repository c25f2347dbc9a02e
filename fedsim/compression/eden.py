"""EDEN: any rate, by the best scalar quantiser of a rotated vector (Vargaftik et al., ICML 2022)."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from pydantic import Field
from scipy.special import ndtr, ndtri

from deltamask import stream_key, uniform_bits
from fedsim.compression.base import Compressor, check_end, read_array
from fedsim.compression.rotation import chunk_starts, chunk_sums, rotate, rotate_back, spread
from fedsim.settings import CompressorSettings


class EdenSettings(CompressorSettings):
    """Parameters of :class:`Eden`."""

    name: str = "eden"
    rate: float = Field(1.0, gt=0, le=8, description="bits an entry; below a whole number by sub-sampling")


class Eden(Compressor):
    """Lloyd-Max centroids of N(0, 1) for the rotated entries, and the scale that makes the estimate unbiased.

    With ``b = ceil(rate)`` bits an entry, a share ``p = rate / b`` of the entries is drawn by the shared key and sent,
    and the estimate is divided by p. For a chunk x with rotation R x and its quantised form q the scale is
    ``|x|_2^2 / <R x, q>``. At one bit this is DRIVE. Body: scales (float32) | centroid indices (b bit planes, packed).
    """

    name, id, summary = "eden", 67, "random rotation and an optimal quantiser: any rate, also below 1 bit an entry"
    Params = EdenSettings
    params: EdenSettings

    def __init__(self, params: EdenSettings) -> None:
        super().__init__(params)
        self._bits = math.ceil(self.params.rate)
        self._share = self.params.rate / self._bits

    @property
    def unbiased(self) -> bool:
        return True

    def _encode(self, vector_d: np.ndarray, key: int) -> bytes:
        sent_n = vector_d[self._chosen(vector_d.size, key)]
        if not sent_n.size:
            return b""
        rotated_n = rotate(sent_n, key)
        norm2_c = chunk_sums(np.square(rotated_n, dtype=np.float64))
        sizes_c = np.diff(chunk_starts(sent_n.size))
        # To unit variance; a chunk of zeros stays zero, and one of the smallest floats nearly so.
        gain_c = np.sqrt(np.divide(sizes_c, norm2_c, out=np.zeros_like(norm2_c), where=norm2_c > 0))
        gain_c = np.minimum(gain_c, np.finfo(np.float32).max).astype(np.float32)
        centroids = lloyd_max_centroids(self._bits)
        borders = ((centroids[1:] + centroids[:-1]) / 2).astype(np.float32)
        index_n = np.searchsorted(borders, rotated_n * spread(gain_c, sent_n.size)).astype(np.uint8)
        product_c = chunk_sums(rotated_n * centroids[index_n])
        scales_c = np.divide(norm2_c, product_c, out=np.zeros_like(norm2_c), where=product_c > 0)
        planes = [np.packbits(index_n >> bit & 1).tobytes() for bit in range(self._bits)]
        return b"".join([scales_c.astype("<f4").tobytes(), *planes])

    def _decode(self, body: memoryview, dimension: int, key: int) -> np.ndarray:
        chosen = self._chosen(dimension, key)
        out_d = np.zeros(dimension, np.float32)
        count = out_d[chosen].size
        if not count:
            check_end(body, 0, "eden body")
            return out_d
        chunks, plane = chunk_starts(count).size - 1, -(-count // 8)
        scales_c = read_array(body, "<f4", chunks, "eden body")
        check_end(body, 4 * chunks + self._bits * plane, "eden body")
        index_n = np.zeros(count, np.uint8)
        for bit in range(self._bits):
            packed = np.frombuffer(body, np.uint8, plane, 4 * chunks + bit * plane)
            index_n |= np.unpackbits(packed, count=count) << bit
        quantised_n = lloyd_max_centroids(self._bits).astype(np.float32)[index_n] * spread(scales_c, count)
        out_d[chosen] = rotate_back(quantised_n, key) / np.float32(self._share)
        return out_d

    def _chosen(self, dimension: int, key: int) -> np.ndarray | slice:
        """The entries that are sent."""
        if self._share == 1:
            return slice(None)
        threshold = np.uint32(min(int(self._share * 2**32), 2**32 - 1))
        return np.flatnonzero(uniform_bits(stream_key(key, "sub-sample"), dimension) < threshold)


@cache
def lloyd_max_centroids(bits: int) -> np.ndarray:
    """The ``2 ** bits`` centroids that quantise N(0, 1) with least squared error, ascending (Lloyd 1982, Max 1960)."""
    centroids = ndtri((np.arange(2**bits) + 0.5) / 2**bits)
    for _ in range(100_000):
        borders = np.concatenate([[-np.inf], (centroids[1:] + centroids[:-1]) / 2, [np.inf]])
        density = np.exp(-(borders**2) / 2) / np.sqrt(2 * np.pi)
        updated = -np.diff(density) / np.diff(ndtr(borders))
        if np.abs(updated - centroids).max() < 1e-8:
            break
        centroids = updated
    return updated
