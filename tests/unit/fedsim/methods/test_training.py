"""Local training."""

import pytest
import torch

from fedsim.methods import ClientTask
from fedsim.methods.training import LocalTraining, make_optimizer
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


@pytest.mark.parametrize(("adjustment", "moves"), [(None, True), (1e-3, False)])
def test_logit_adjustment_does_not_unlearn_absent_classes(adjustment, moves):
    settings = TrainSettings(epochs=5, batch_size=4, lr=0.1, optimizer="sgd", momentum=0, logit_adjustment=adjustment)
    bias = torch.nn.Parameter(torch.zeros(3))
    task = ClientTask(1, 0, torch.zeros(8, 1), torch.zeros(8, dtype=torch.int64))
    loss = LocalTraining(settings, 0).run([bias], task, lambda x, step: bias.expand(len(x), 3))
    assert (bias.abs().max() > 0.1) == moves
    assert (loss > 0.5) == moves


def test_logit_adjustment_is_by_the_classes_of_the_client_not_of_the_batch():
    labels = torch.tensor([0, 0, 0, 1])
    losses = []
    for adjustment in (None, 2.0):
        settings = TrainSettings(batch_size=1, lr=1e-6, optimizer="sgd", momentum=0, logit_adjustment=adjustment)
        bias = torch.nn.Parameter(torch.tensor([0.3, -0.2]))
        task = ClientTask(1, 0, torch.zeros(4, 1), labels)
        losses.append(LocalTraining(settings, 0).run([bias], task, lambda x, step, b=bias: b.expand(len(x), 2)))
    shares = torch.tensor([5 / 8, 3 / 8])
    adjusted = torch.log_softmax(torch.tensor([0.3, -0.2]) + shares.log(), 0)
    assert losses[1] == pytest.approx(float(-(3 * adjusted[0] + adjusted[1]) / 4), abs=1e-4)
    assert losses[0] != pytest.approx(losses[1], abs=1e-2)


def test_bf16_rounds_products_and_not_parameters():
    torch.manual_seed(0)
    task = ClientTask(1, 0, torch.randn(8, 16), torch.arange(8) % 3)
    trained, seen = {}, {}
    for precision in ("float32", "tf32", "bf16"):
        weight = torch.nn.Parameter(torch.full((3, 16), 0.1))

        def logits(x, step, weight=weight, precision=precision):
            product = torch.nn.functional.linear(x, weight)
            seen[precision] = product.dtype
            return product

        LocalTraining(TrainSettings(precision=precision, epochs=3), 0).run([weight], task, logits)
        trained[precision] = weight.detach()
    assert seen == {"float32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
    assert trained["bf16"].dtype == torch.float32
    assert torch.equal(trained["tf32"], trained["float32"])  # a CPU has no tf32
    assert not torch.equal(trained["bf16"], trained["float32"])
    torch.testing.assert_close(trained["bf16"], trained["float32"], atol=0.05, rtol=0)
