"""Methods that send scalars: what slopes are, and which weights they lead to."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from deltamask import FlatNetwork, PayloadError, payload, stream_key
from deltamask.payload import HEADER_BYTES
from fedsim.engine import make_model
from fedsim.methods import METHODS
from fedsim.methods.fedkseed import drawn_candidates
from fedsim.methods.wire import pack_tensors
from fedsim.methods.zeroth_order import direction, pack_scalars, two_point, unpack_scalars
from fedsim.testing import run_rounds


def start_of(config):
    model = make_model(config, classes=10)
    return FlatNetwork(model.network, model.masked_names).weights_d.numpy()


def client_of(config):
    return METHODS.get(config.method.name).client(config.method, config, make_model(config, classes=10))


def test_two_points_give_the_directional_derivative_of_a_quadratic():
    rng = np.random.default_rng(0)
    root, b, x, z = (torch.from_numpy(rng.standard_normal(shape)) for shape in ((6, 6), 6, 6, 6))
    curvature = root @ root.T
    for smoothing in (1e-3, 1.0):  # there is no error at any distance
        slope, mean = two_point(lambda d: d @ curvature @ d / 2 + b @ d, x, z, smoothing)
        assert slope == pytest.approx(float(z @ (curvature @ x + b)), rel=1e-6)
        # Half the second derivative times the squared distance is what both losses have in common.
        loss = x @ curvature @ x / 2 + b @ x
        assert mean == pytest.approx(float(loss + smoothing**2 * z @ curvature @ z / 2), rel=1e-9)


def test_directions_are_normal_and_follow_from_their_key():
    one, other = direction(1, 100_000), direction(2, 100_000)
    assert one.dtype == np.float32
    assert np.array_equal(one, direction(1, 100_000))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.02
    assert np.mean(one) == pytest.approx(0, abs=0.02)
    assert np.mean(one**2) == pytest.approx(1, abs=0.02)
    assert np.mean(one.astype(np.float64) ** 4) == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize("method", ["fedkseed", "decomfl"])
def test_slopes_are_measured_along_the_way(small_config, method):
    whole = ["method.batch_size=10000", "method.steps=2", "method.lr=1", "data.train_samples=200"]
    config = small_config(f"method.name={method}", *whole, "rounds=1")
    executor, federation, _ = run_rounds(config)
    features, labels = executor.trainer.samples("train", executor.trainer._partition.indices(0))
    net = FlatNetwork(federation.model.network, federation.model.masked_names)

    @torch.no_grad()
    def slope_at(weights, z, distance=config.method.smoothing):
        above, below = (float(F.cross_entropy(net(features, weights + d * z), labels)) for d in (distance, -distance))
        return (above - below) / (2 * distance)

    [keys, following] = client_of(config).keys(1, 0)
    found = unpack_scalars(executor.content(1, 0), 2 * len(keys)).reshape(2, -1)
    weights = net.weights_d.clone()
    for key, slope in zip(keys, found[0], strict=True):
        z = torch.from_numpy(direction(key, net.size))
        assert slope == pytest.approx(slope_at(net.weights_d, z), abs=1e-3)
        weights -= float(slope) * z / len(keys)
    directions = [torch.from_numpy(direction(key, net.size)) for key in following]
    assert found[1] == pytest.approx([slope_at(weights, z) for z in directions], abs=1e-3)
    assert np.abs(found[1] - [slope_at(net.weights_d, z) for z in directions]).max() > 5e-3


def test_fedkseed_adds_slopes_by_candidate_and_goes_along_these(small_config):
    small = ["method.steps=6", "method.candidates=5", "partition.clients=3", "partition.name=quantity", "rounds=2"]
    config = small_config("method.name=fedkseed", *small)
    executor, federation, outcomes = run_rounds(config)
    sums = np.zeros(5, np.float32)
    for index in (1, 2):
        total = sum(row["samples"] for row in outcomes[index].clients)
        of_round = np.zeros(5)
        for row in outcomes[index].clients:
            upload = executor.content(index, row["client"])
            assert len(upload) == HEADER_BYTES + 4 * 6
            drawn = drawn_candidates(config.method, config.seed, index, row["client"])
            for candidate, slope in zip(drawn, unpack_scalars(upload, 6), strict=True):
                of_round[candidate] += row["samples"] / total * float(slope)
        sums = (sums + of_round).astype(np.float32)
    server = federation.servers["method"]
    assert federation.state()["method.scalars"] == pytest.approx(sums, abs=1e-6)
    expected = start_of(config)
    for candidate, scalar in enumerate(federation.state()["method.scalars"]):
        z = direction(stream_key(config.seed, "candidate", candidate), expected.size)
        expected = expected - np.float32(config.method.lr) * scalar * z
    assert np.array_equal(client_of(config).receive(server.broadcast()).weights_d, expected)


def test_decomfl_repeats_all_rounds_with_the_mean_slopes(small_config):
    config = small_config("method.name=decomfl", "method.steps=2", "method.perturbations=3", "rounds=3")
    executor, federation, _ = run_rounds(config)
    start = expected = start_of(config)
    head = len(executor.broadcasts[1].full) - HEADER_BYTES
    for index in (1, 2, 3):
        assert len(executor.broadcasts[index].full) == head + HEADER_BYTES + 4 * 6 * (index - 1)
        means = np.mean([unpack_scalars(executor.content(index, k), 6) for k in range(4)], axis=0, dtype=np.float64)
        factor = np.float32(config.method.lr / 3)
        for number, slope in enumerate(means.astype(np.float32)):
            z = direction(stream_key(config.seed, "direction", index, *divmod(number, 3)), start.size)
            expected = expected - factor * slope * z
    client = client_of(config)
    whole = client.receive(federation.servers["method"].broadcast())
    assert np.array_equal(whole.weights_d, expected)
    assert not np.array_equal(start, expected)
    late = client.receive(executor.broadcasts[2].full)
    for delta in (executor.broadcasts[3].delta, federation.servers["method"].delta()):
        assert len(delta) == HEADER_BYTES + 4 * 6
        late = client.receive_delta(delta, late)
    assert torch.equal(late.weights_d, whole.weights_d)


def test_scalars_are_checked(small_config):
    scalars = np.arange(3, dtype=np.float32)
    assert np.array_equal(unpack_scalars(pack_scalars(scalars), 3), scalars)
    with pytest.raises(ValueError, match="scalars_n: expected finite values, found others"):
        pack_scalars(np.array([np.nan], np.float32))
    bad = [
        (pack_scalars(scalars), 2, "dimension"),
        (payload.pack(payload.SCALARS, 3, bytes(8)), 3, "scalars: expected 12 bytes, found 8"),
        (payload.pack(payload.SCALARS, 1, np.float32([np.inf]).tobytes()), 1, "scalars: expected finite"),
    ]
    for data, count, message in bad:
        with pytest.raises(PayloadError, match=message):
            unpack_scalars(data, count)
    config = small_config("method.name=decomfl", "method.perturbations=2")
    client = client_of(config)
    with pytest.raises(PayloadError, match="dimension"):  # a round and a half
        client.receive(pack_scalars(scalars) + pack_tensors(client.model.head_state()))
