"""KLMS: a mask is sent as the numbers of samples that both sides draw from the global probabilities."""

from __future__ import annotations

import numba
import numpy as np
import torch
from pydantic import Field

import deltamask as dm
from deltamask import payload
from deltamask.parallel import over_indices
from deltamask.payload import PayloadError
from deltamask.sampling import bits_at
from fedsim.methods.base import ClientTask
from fedsim.methods.fedpm import FedPMSettings
from fedsim.methods.mask import MaskClient, MaskMethod, MaskState, WholeMaskServer

_SMALLEST = 2.0**-24  # of a client's probability and its complement, so that logarithms are finite


class KlmsSettings(FedPMSettings):
    """Parameters of :class:`Klms`."""

    name: str = "klms"
    block: int = Field(128, ge=1, le=65_536, description="mask bits that are selected together")
    bits: int = Field(6, ge=1, le=16, description="bits for a block: it is selected among 2 ** bits samples")


def encode_mask(theta_k_d: np.ndarray, theta_g_d: np.ndarray, key: int, own_key: int, block: int, bits: int) -> bytes:
    """A mask that is approximately drawn from the client's probabilities, as a framed message.

    For each block, ``2 ** bits`` samples are drawn from ``Bern(theta_g)``, and one of them is selected with probability
    in proportion to its importance weight ``Bern(theta_k) / Bern(theta_g)``. The body is the numbers of the selected
    samples, ``bits`` each, packed.

    Args:
        theta_k_d: the client's probabilities, float32 of shape ``(d,)``.
        theta_g_d: the global probabilities, float32 strictly between 0 and 1, of shape ``(d,)``.
        key: stream of the samples, which the server shares.
        own_key: stream of the selection.
        block: mask bits of a block; the last one may have fewer.
        bits: of a number.
    """
    theta_k = np.clip(theta_k_d.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
    theta_g = theta_g_d.astype(np.float64)
    uniforms_b = dm.uniform_bits(own_key, -(-theta_g_d.size // block))
    selected_b = np.empty(uniforms_b.size, np.uint16)
    gains = np.log(theta_k / theta_g), np.log((1 - theta_k) / (1 - theta_g))
    _select(selected_b.size, np.uint64(key), theta_g_d, *gains, uniforms_b, block, bits, selected_b)
    planes = selected_b[:, None] >> np.arange(bits, dtype=np.uint16) & 1
    body = np.packbits(planes.astype(np.bool_)).tobytes()
    return payload.pack(payload.SELECTED, theta_g_d.size, body, payload.context(key, theta_g_d))


def decode_mask(data: bytes, theta_g_d: np.ndarray, key: int, block: int, bits: int) -> np.ndarray:
    """The mask of :func:`encode_mask`, booleans of shape ``(d,)``.

    Raises:
        PayloadError: the bytes are no mask of so many blocks.
    """
    body = payload.unpack(data, payload.SELECTED, theta_g_d.size, payload.context(key, theta_g_d))
    blocks = -(-theta_g_d.size // block)
    if len(body) != -(-blocks * bits // 8):
        raise PayloadError(f"klms body: expected {-(-blocks * bits // 8)} bytes, found {len(body)}")
    planes = np.unpackbits(np.frombuffer(body, np.uint8), count=blocks * bits).reshape(blocks, bits)
    selected_b = (planes.astype(np.uint16) << np.arange(bits, dtype=np.uint16)).sum(1, dtype=np.uint16)
    mask_d = np.empty(theta_g_d.size, np.bool_)
    _draw(mask_d.size, np.uint64(key), theta_g_d, selected_b, block, bits, mask_d)
    return mask_d


@numba.njit(inline="always")
def _sampled(key, theta_g_d, i, sample, bits):  # type: ignore[no-untyped-def]
    """Bit i of a block's sample, by an integer threshold as in :func:`deltamask.bernoulli_mask`."""
    uniform = np.int64(bits_at(key, (np.uint64(i) << np.uint64(bits)) | np.uint64(sample)))
    return uniform < np.int64(theta_g_d[i] * np.float32(2.0**32))


@over_indices(grain=16)
def _select(start, stop, key, theta_g_d, gain_one_d, gain_zero_d, uniforms_b, block, bits, selected_b):  # type: ignore[no-untyped-def]
    for b in range(start, stop):
        weights = np.zeros(1 << bits)
        for i in range(b * block, min((b + 1) * block, theta_g_d.size)):
            for sample in range(weights.size):
                weights[sample] += gain_one_d[i] if _sampled(key, theta_g_d, i, sample, bits) else gain_zero_d[i]
        weights = np.exp(weights - weights.max()).cumsum()
        chosen = np.searchsorted(weights, uniforms_b[b] * 2.0**-32 * weights[-1], "right")
        selected_b[b] = min(chosen, weights.size - 1)


@over_indices()
def _draw(start, stop, key, theta_g_d, selected_b, block, bits, mask_d):  # type: ignore[no-untyped-def]
    for i in range(start, stop):
        mask_d[i] = _sampled(key, theta_g_d, i, selected_b[i // block], bits)


class _Client(MaskClient[KlmsSettings]):
    def encode(self, trained: torch.Tensor, state: MaskState, task: ClientTask) -> dm.Update:
        seed, params = self.experiment.seed, self.params
        key, own_key = (dm.stream_key(seed, purpose, task.round, task.client) for purpose in ("samples", "selection"))
        return dm.Update(encode_mask(trained.cpu().numpy(), state.theta_d, key, own_key, params.block, params.bits))


class _Server(WholeMaskServer[KlmsSettings]):
    def decode(self, round_index: int, client: int, payload: bytes) -> np.ndarray:
        key = dm.stream_key(self.experiment.seed, "samples", round_index, client)
        return decode_mask(payload, self._probabilities.theta_d, key, self.params.block, self.params.bits)


class Klms(MaskMethod):
    """Isik et al., "Adaptive Compression in Federated Learning via Side Information" (AISTATS 2024): FedPM-KLMS.

    Aggregation is FedPM's. A selected mask is distributed as the client's when ``method.bits`` exceeds the relative
    entropy of a block in bits, ``KL(Bern(theta_k) || Bern(theta_g))``, and more like the global one when it does not.
    Blocks have a fixed size; the paper's adaptive variant, blocks of equal relative entropy, spends bits on their
    borders now and then, and is left out.
    """

    name = "klms"
    summary = "probabilistic masks; sends which of the samples that both sides draw is like the client's"
    Params = KlmsSettings
    Client, Server = _Client, _Server

    @classmethod
    def compile_kernels(cls, params: KlmsSettings) -> None:
        super().compile_kernels(params)
        theta_d = np.full(params.block, 0.5, np.float32)
        decode_mask(
            encode_mask(theta_d, theta_d, 0, 0, params.block, params.bits), theta_d, 0, params.block, params.bits
        )
