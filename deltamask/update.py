"""One client's update: from probabilities to the bytes that are sent, and back to the client's mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from deltamask import codecs, payload
from deltamask.delta import Selection, bernoulli_kl, flipped, select
from deltamask.sampling import bernoulli_mask, stream_key, uniform_bits


@dataclass(frozen=True)
class Update:
    """The result of :func:`encode`.

    Attributes:
        payload: the framed bytes to send.
        delta_size: number of mask bits that differ from the reference mask; None for other updates than of masks.
        sent_size: how many of them the payload holds; None likewise.
    """

    payload: bytes
    delta_size: int | None = None
    sent_size: int | None = None


@dataclass(frozen=True)
class Decoded:
    """The result of :func:`decode`.

    Attributes:
        mask_d: the client's mask as the server sees it, booleans of shape ``(d,)``.
        reference_d: the reference mask that both sides know, booleans of shape ``(d,)``.
        flips: ascending uint64 indices where the two differ, false positives of the codec included.
    """

    mask_d: np.ndarray
    reference_d: np.ndarray
    flips: np.ndarray


def encode(
    theta_k_d: np.ndarray | Tensor,
    theta_g_d: np.ndarray | Tensor,
    key: int,
    *,
    kappa: float = 1.0,
    codec: str | codecs.Codec = "fuse8+png",
    selection: Selection = "kl",
    most: int | None = None,
    mask_key: int | None = None,
    there: Tensor | None = None,
) -> Update:
    """Encode a client's probabilities against the broadcast ones (DeltaMask, steps 2 to 4 of a round).

    The masks ``[u < theta_k]`` and ``[u < theta_g]`` share their uniforms, so they differ only where u lies between the
    two probabilities.

    Args:
        theta_k_d: the client's probabilities after training, float32 in [0, 1] of shape ``(d,)``; a tensor's bits are
            compared on its device.
        theta_g_d: the broadcast probabilities, float32 strictly between 0 and 1, of shape ``(d,)``; a tensor too.
        key: the stream of this round and client, from :func:`deltamask.stream_key`; the server must use the same.
        kappa: share of the flips to send, in (0, 1].
        codec: a name of :data:`deltamask.codecs.CODECS`, or a codec of your own.
        selection: which flips are sent: those of largest relative entropy ("kl", as in the paper), those of most
            relative entropy for each bit that the codec spends on them ("gain-per-bit"), or "random" ones.
        most: largest number of flips to send, from 1 on; None: any.
        mask_key: a stream of its own for the client's mask, so that the masks differ by chance wherever theta is not
            near 0 or 1; theirs is the same when not given.
        there: ``theta_g_d`` on the device of a tensor ``theta_k_d``, for a caller that has it; else it is copied.

    Raises:
        ValueError: shapes differ, a client's probability is none, ``kappa`` is out of range, or the codec is unknown.
    """
    if theta_k_d.shape != theta_g_d.shape:
        raise ValueError(f"theta_k_d: expected shape {theta_g_d.shape}, found {theta_k_d.shape}")
    if not (theta_k_d.min() >= 0 and theta_k_d.max() <= 1):  # also refuses NaN
        raise ValueError("theta_k_d: expected probabilities in [0, 1], found others (has training diverged?)")
    if selection not in get_args(Selection):
        raise ValueError(f"selection: found {selection!r}, allowed: {', '.join(get_args(Selection))}")
    coder = codecs.get(codec) if isinstance(codec, str) else codec
    own_key = key if mask_key is None else mask_key
    if isinstance(theta_g_d, Tensor):
        there = theta_g_d.detach() if there is None else there
        theta_g_d = _array(theta_g_d)
    if isinstance(theta_k_d, Tensor) and theta_k_d.is_cpu:
        theta_k_d = _array(theta_k_d)
    if isinstance(theta_k_d, Tensor):
        theta_k_d = theta_k_d.detach()
        there = torch.as_tensor(theta_g_d if there is None else there, device=theta_k_d.device)
        changed = torch.nonzero(bernoulli_mask(theta_k_d, own_key) != bernoulli_mask(there, key)).flatten()
        delta, trained = changed.cpu().numpy().astype(np.uint64), theta_k_d[changed].cpu().numpy()
    else:
        delta = flipped(bernoulli_mask(theta_k_d, own_key), bernoulli_mask(theta_g_d, key))
        trained = theta_k_d[delta]
    if selection == "random":
        gains = uniform_bits(stream_key(key, "selection"), theta_g_d.size)[delta].astype(np.float64)
    else:
        gains = bernoulli_kl(trained, theta_g_d[delta])
        if selection == "gain-per-bit":
            gains /= coder.bits_given(delta, theta_g_d, key)
    sent = select(delta, gains, kappa, most)
    body = coder.encode_given(sent, theta_g_d, key)
    context = payload.context(key, theta_g_d)
    return Update(payload.pack(coder.id, theta_g_d.size, body, context), delta.size, sent.size)


def decode(
    data: bytes, theta_g_d: np.ndarray | Tensor, key: int, *, codec: str | codecs.Codec = "fuse8+png"
) -> Decoded:
    """Rebuild a client's mask from its payload (DeltaMask, step 5): the reference mask, flipped where the payload says.

    Args:
        data: the received bytes.
        theta_g_d, key, codec: as the client used them.

    Raises:
        PayloadError: the bytes are corrupt, of another codec or another dimension, or made with another
            ``theta_g_d`` or ``key``.
    """
    coder = codecs.get(codec) if isinstance(codec, str) else codec
    theta_g_d = _array(theta_g_d)
    body = payload.unpack(data, coder.id, theta_g_d.size, payload.context(key, theta_g_d))
    flips = coder.decode_given(body, theta_g_d, key)
    reference_d = bernoulli_mask(theta_g_d, key)
    mask_d = reference_d.copy()
    mask_d[flips] = ~mask_d[flips]
    return Decoded(mask_d, reference_d, flips)


def _array(theta_d: np.ndarray | Tensor) -> np.ndarray:
    return theta_d.detach().cpu().numpy() if isinstance(theta_d, Tensor) else theta_d
