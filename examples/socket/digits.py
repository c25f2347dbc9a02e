"""The task of the examples: handwritten digits, and a perceptron whose random weights stay as they are.

A client trains which of the weights are kept. Nothing here knows how its bytes travel.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

import deltamask

SEED, KAPPA, CODEC = 0, 0.8, "fuse8+png"
EPOCHS, BATCH, RATE = 2, 32, 0.1

Samples = tuple[Tensor, Tensor]


def network(weights: list[np.ndarray] | None = None) -> deltamask.MaskedModule:
    """64 pixels to 10 digits, all weights masked: drawn by the seed, or given in the order of the layers."""
    torch.manual_seed(SEED)
    layers = [nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)]
    perceptron = nn.Sequential(*layers)
    for layer in layers[::2]:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    for parameter, array in zip(perceptron.parameters(), weights or (), strict=weights is not None):
        parameter.data.copy_(torch.from_numpy(array))
    return deltamask.MaskedModule(perceptron, deltamask.select_parameters(perceptron, biases=True))


def probabilities(size: int) -> deltamask.BetaPosterior:
    """The global probabilities before the first round, which server and clients have to make alike."""
    return deltamask.BetaPosterior(size, theta_init=0.5, reset_every=1)


def samples(path: str, split: str, client: int = 0, clients: int = 1) -> Samples:
    """A client's share of a split of an ``.npz`` file of images, uint8 of shape ``(n, 8, 8, 1)``, and labels."""
    with np.load(path) as stored:
        images, labels = (stored[f"{split}_{what}"][client::clients] for what in ("images", "labels"))
    return torch.from_numpy(images.reshape(-1, 64) / np.float32(127.5) - 1), torch.from_numpy(labels.astype(np.int64))


def train(net: deltamask.MaskedModule, client: deltamask.Client, own: Samples) -> deltamask.Update:
    """A client's part of a round: from the global probabilities to its upload."""
    x, y = own
    net.load_theta(client.theta_d)
    optimizer = torch.optim.Adam([net.scores_d], lr=RATE, fused=True)
    step = 0
    for epoch in range(EPOCHS):
        order = np.random.Generator(np.random.Philox(key=client.key("batches", epoch))).permutation(len(y))
        for chosen in torch.from_numpy(order).split(BATCH):
            loss = nn.functional.cross_entropy(net(x[chosen], key=client.key("train", step)), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    return client.upload(net.theta(), kappa=KAPPA)


@torch.no_grad()
def accuracy(net: deltamask.MaskedModule, theta_d: np.ndarray, test: Samples) -> float:
    """Share of right answers of the network with the weights that are kept more often than not."""
    x, y = test
    right = net(x, torch.from_numpy(theta_d > 0.5).float()).argmax(1) == y
    return right.sum().item() / len(y)
