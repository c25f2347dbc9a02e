"""Local training."""

import torch

from fedsim.methods.training import make_optimizer
from fedsim.settings import TrainSettings


def test_normalised_sgd_does_not_depend_on_the_scale_of_the_loss():
    moved = []
    for scale in (1.0, 1000.0):
        parameter = torch.nn.Parameter(torch.zeros(3))
        optimizer = make_optimizer(TrainSettings(optimizer="normalized-sgd", lr=0.1, momentum=0.9), [parameter])
        for _ in range(2):
            optimizer.zero_grad()
            (scale * parameter @ torch.tensor([1.0, -2.0, 2.0])).backward()
            optimizer.step()
        moved.append(parameter.detach())
    # Gradient over its root mean square, sqrt(3); the second step adds 0.9 of the first.
    assert torch.allclose(moved[0], -0.1 * (1 + 1.9) * torch.tensor([1.0, -2.0, 2.0]) / 3**0.5, atol=1e-6)
    assert torch.allclose(moved[0], moved[1], atol=1e-6)
    parameter.grad = torch.zeros(3)
    optimizer.step()
    assert parameter.isfinite().all()
