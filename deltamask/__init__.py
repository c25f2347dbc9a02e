"""DeltaMask: federated fine-tuning of frozen networks by probabilistic masks, at well under 0.1 bit per parameter.

Tsouvalas, Asano, Saeed: "Federated Fine-Tuning of Foundation Models via Probabilistic Masking" (arXiv 2311.17299). This
package is the method as a library; it knows nothing of Ray, files or datasets. One client-round in any simulator:

>>> import torch, deltamask
>>> _ = torch.manual_seed(0)
>>> network = torch.nn.Sequential(torch.nn.Linear(8, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 2))
>>> x = torch.randn(256, 8); y = (x[:, 0] > 0).long()

Server: global probabilities, broadcast to the client, and a key that both sides derive alike.

>>> net = deltamask.MaskedModule(network, deltamask.select_parameters(network))
>>> posterior = deltamask.BetaPosterior(net.size, theta_init=0.95)
>>> theta_g = posterior.theta_d
>>> key = deltamask.stream_key(42, "round", 1, "client", 7)

Client: train the scores, then encode only the mask bits that changed.

>>> net.load_theta(theta_g)
>>> optimizer = torch.optim.Adam([net.scores_d], lr=0.1)
>>> for step in range(20):
...     loss = torch.nn.functional.cross_entropy(net(x, key=deltamask.stream_key(key, step)), y)
...     optimizer.zero_grad(); loss.backward(); optimizer.step()
>>> update = deltamask.encode(net.theta().numpy(), theta_g, key, kappa=0.8)
>>> 0 < update.sent_size <= update.delta_size and 8 * len(update.payload) / net.size < 1.0
True

Server: decode the bytes to the client's mask and update the posterior.

>>> decoded = deltamask.decode(update.payload, theta_g, key)
>>> decoded.mask_d.shape == (net.size,) and len(decoded.flips) >= update.sent_size
True
>>> posterior.observe(decoded.mask_d)
>>> posterior.step()
"""

from deltamask import codecs
from deltamask.broadcast import pack_state, pack_sums, unpack_state, unpack_sums
from deltamask.coupled import CoupledDifference
from deltamask.delta import bernoulli_kl, flipped, kappa_at, select
from deltamask.masking import FlatNetwork, MaskedModule, select_parameters
from deltamask.payload import PayloadError
from deltamask.posterior import BetaPosterior, GlobalProbabilities, RoundSums
from deltamask.sampling import bernoulli_mask, stream_key, uniform_bits
from deltamask.update import Decoded, Update, decode, encode

__all__ = [
    "BetaPosterior",
    "CoupledDifference",
    "Decoded",
    "FlatNetwork",
    "GlobalProbabilities",
    "MaskedModule",
    "PayloadError",
    "RoundSums",
    "Update",
    "bernoulli_kl",
    "bernoulli_mask",
    "codecs",
    "decode",
    "encode",
    "flipped",
    "kappa_at",
    "pack_state",
    "pack_sums",
    "select",
    "select_parameters",
    "stream_key",
    "uniform_bits",
    "unpack_state",
    "unpack_sums",
]
