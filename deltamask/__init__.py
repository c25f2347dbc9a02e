"""DeltaMask: federated fine-tuning of frozen networks by probabilistic masks, at well under 0.1 bit per parameter.

Tsouvalas, Asano, Saeed: "Federated Fine-Tuning of Foundation Models via Probabilistic Masking" (arXiv 2311.17299). This
package is the method as a library; it knows nothing of Ray, files or datasets. A round of a federation:

>>> import torch, deltamask
>>> _ = torch.manual_seed(0)
>>> network = torch.nn.Sequential(torch.nn.Linear(8, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 2))
>>> x = torch.randn(256, 8); y = (x[:, 0] > 0).long()
>>> net = deltamask.MaskedModule(network, deltamask.select_parameters(network))

Both ends start from the same probabilities and the same seed; bytes pass between them.

>>> server = deltamask.Server(deltamask.BetaPosterior(net.size, theta_init=0.95), seed=42)
>>> client = deltamask.Client(7, deltamask.BetaPosterior(net.size, theta_init=0.95), seed=42)
>>> client.receive(server.message(client.round))

The client trains the scores, then encodes only the mask bits that changed.

>>> net.load_theta(client.theta_d)
>>> optimizer = torch.optim.Adam([net.scores_d], lr=0.1)
>>> for step in range(20):
...     loss = torch.nn.functional.cross_entropy(net(x, key=client.key("train", step)), y)
...     optimizer.zero_grad(); loss.backward(); optimizer.step()
>>> update = client.upload(net.theta(), kappa=0.8)
>>> 0 < update.sent_size <= update.delta_size and 8 * len(update.payload) / net.size < 1.0
True

The server decodes the bytes to the client's mask, and ends the round with the clients that there are.

>>> decoded = server.accept(7, update.payload)
>>> decoded.mask_d.shape == (net.size,) and len(decoded.flips) >= update.sent_size
True
>>> server.step()
>>> client.receive(server.message(client.round))
>>> client.round, bool((client.theta_d == server.theta_d).all())
(2, True)

Below are the parts for simulators of their own: :func:`encode`, :func:`decode`, and the global probabilities.
"""

from deltamask import codecs
from deltamask.broadcast import pack_state, pack_sums, unpack_state, unpack_sums
from deltamask.client import Client
from deltamask.coupled import CoupledDifference
from deltamask.delta import bernoulli_kl, flipped, kappa_at, select
from deltamask.masking import FlatNetwork, MaskedModule, select_parameters
from deltamask.payload import PayloadError
from deltamask.posterior import BetaPosterior, GlobalProbabilities, RoundSums
from deltamask.sampling import bernoulli_mask, stream_key, uniform_bits
from deltamask.server import Server
from deltamask.session import reference_key
from deltamask.update import Decoded, Update, decode, encode

__all__ = [
    "BetaPosterior",
    "Client",
    "CoupledDifference",
    "Decoded",
    "FlatNetwork",
    "GlobalProbabilities",
    "MaskedModule",
    "PayloadError",
    "RoundSums",
    "Server",
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
    "reference_key",
    "select",
    "select_parameters",
    "stream_key",
    "uniform_bits",
    "unpack_state",
    "unpack_sums",
]
