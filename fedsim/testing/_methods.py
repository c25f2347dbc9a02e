"""The contract of federated methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from deltamask import PayloadError
from deltamask.uploads import pack_relay, split_weight
from fedsim.config import Config
from fedsim.engine import Broadcast, Federation, SerialExecutor, make_model
from fedsim.methods import METHODS, Method, MethodClient
from fedsim.testing._experiments import (
    SmallExperiments,
    flipped_bit,
    run_once,
    run_rounds,
    small_config,
    without_times,
)
from fedsim.testing._members import check_named, name_of, overrides_of


class MethodContract(SmallExperiments):
    """The contract of every method, in two rounds of three clients on the embedded digits.

    What is recorded is what was sent; the same seed gives the same result whatever the order of the clients, and
    another seed another one; it learns; a restored state has the same future; clients with one sample and skewed
    clients work; damaged messages raise the typed error; the whole state says what deltas lead to::

        class TestLastBlocks(MethodContract):
            method = "my_methods:LastBlocks"
            settings = {"last": 2}

    Override the fixture :meth:`overrides` for several variants of one method.
    """

    #: The method: its name, ``package.module:Class`` or the class.
    method: ClassVar[str | type[Method] | None] = None
    #: Keys of its group.
    settings: ClassVar[Mapping[str, Any]] = {}
    #: ``"key=value"`` of other groups, such as ``"train.lr=0.01"``.
    others: ClassVar[Sequence[str]] = ()
    #: Accuracy that it has at least after two rounds; guessing gives 0.1.
    accuracy: ClassVar[float] = 0.4

    @pytest.fixture
    def overrides(self) -> list[str]:
        """Overrides that select the method, as ``"key=value"``."""
        return [*overrides_of("method", name_of(self.method, METHODS, "method"), self.settings), *self.others]

    @pytest.fixture
    def make(self, folder: Path, overrides: list[str]) -> Callable[..., Config]:
        """Experiments with the method, by further overrides."""
        return lambda *more: small_config(folder, *overrides, "partition.clients=3", *more)

    @pytest.fixture
    def config(self, make: Callable[..., Config]) -> Config:
        """The experiment that most tests look at."""
        return make()

    def test_it_has_a_name_and_a_line_for_listings(self, config: Config) -> None:
        check_named(METHODS.get(config.method.name))

    def test_recorded_bytes_are_the_bytes_sent(self, config: Config) -> None:
        executor, federation, outcomes = run_once(config)
        for outcome in outcomes:
            index = outcome.round["round"]
            uploads = [executor.uploads[index, row["client"]] for row in outcome.clients]
            # Every client takes part in every round, so after the first one it has the version before.
            step = executor.broadcasts[index].step
            assert [row["downlink_bytes"] for row in outcome.clients] == [len(step)] * len(uploads)
            downlink = sum(row["downlink_bytes"] for row in outcome.clients)
            bits = [8 * len(upload) for upload in uploads]
            assert [row["payload_bytes"] for row in outcome.clients] == [len(upload) for upload in uploads]
            assert [row["uplink_bpp"] for row in outcome.clients] == [b / federation.dimension for b in bits]
            assert outcome.round["uplink_bytes"] == sum(map(len, uploads))
            assert outcome.round["uplink_bpp"] == pytest.approx(np.mean(bits) / federation.dimension, rel=1e-12)
            assert outcome.round["downlink_bytes"] == downlink
            assert outcome.round["downlink_bpp"] == 8 * downlink / len(uploads) / federation.dimension

    def test_it_is_deterministic_and_seeded(self, config: Config, make: Callable[..., Config]) -> None:
        first, second = run_once(config)[2], run_rounds(config)[2]
        assert [without_times(o.round) for o in first] == [without_times(o.round) for o in second]
        assert [[without_times(r) for r in o.clients] for o in first] == [
            [without_times(r) for r in o.clients] for o in second
        ]
        seeded = make("seed=1")
        other = Federation(seeded, SerialExecutor(seeded))
        assert other.run_round().round["state_digest"] != first[0].round["state_digest"]

    def test_an_upload_does_not_depend_on_whom_the_worker_trained_before(self, config: Config) -> None:
        executor, _, _ = run_once(config)
        uploads = SerialExecutor(config).train("method", 1, [2, 0], executor.broadcasts[1], {})
        assert {upload.client: upload.update.payload for upload in uploads} == {
            client: executor.uploads[1, client] for client in (2, 0)
        }

    def test_it_keeps_or_gains_accuracy_far_above_chance(self, config: Config) -> None:
        outcomes = run_once(config)[2]
        assert outcomes[-1].round["accuracy"] > self.accuracy
        assert outcomes[-1].round["loss"] < np.log(10)

    def test_a_restored_state_has_the_same_future(self, config: Config) -> None:
        executor, _, outcomes = run_once(config)
        other = Federation(config, executor)
        other.run_round()
        other.run_round()
        restored = Federation(config, executor)
        restored.restore({name: array.copy() for name, array in other.state().items()})
        assert restored.next_round == 2
        assert without_times(restored.run_round().round) == without_times(outcomes[2].round)

    def test_a_client_with_one_sample_and_skewed_clients_work(self, make: Callable[..., Config]) -> None:
        skewed = ["partition.clients=200", "partition.name=dirichlet", "partition.alpha=0.01"]
        outcomes = run_rounds(make(*skewed, "participation=0.02", "rounds=1"))[2]
        assert min(row["samples"] for row in outcomes[0].clients) == 1
        assert len(outcomes[1].clients) == 4

    def test_corrupt_uploads_and_broadcasts_raise_the_typed_error(self, config: Config) -> None:
        executor, federation, outcomes = run_once(config)
        sent, broadcast = executor.uploads[1, 0], executor.broadcasts[1].full
        server, client = federation.servers["method"], _client(config)
        upload, weight = split_weight(sent, config.method.weighted)
        samples = outcomes[1].clients[0]["samples"]
        assert weight == (samples if config.method.weighted else 1)
        if config.method.weighted:
            with pytest.raises(PayloadError, match="checksum"):
                split_weight(flipped_bit(sent), True)
        with pytest.raises(PayloadError, match="checksum"):
            server.decode(1, 0, flipped_bit(upload))
        with pytest.raises(PayloadError, match="checksum"):
            client.receive(flipped_bit(broadcast, len(broadcast) // 2))
        for cut in (b"", upload[:-1]):
            with pytest.raises(PayloadError):
                server.decode(1, 0, cut)
        for cut in (b"", broadcast[:-1]):
            with pytest.raises(PayloadError):
                client.receive(cut)
        if (delta := executor.broadcasts[2].delta) is not None:
            with pytest.raises(PayloadError, match="checksum"):
                client.receive_delta(flipped_bit(delta), client.receive(broadcast))
            for cut in (b"", delta[:-1]):
                with pytest.raises(PayloadError):
                    client.receive_delta(cut, client.receive(broadcast))

    def test_clients_that_missed_rounds_get_to_the_same_state_by_relays_and_by_deltas(self, config: Config) -> None:
        executor, federation, outcomes = run_once(config)
        server, start = federation.servers["method"], executor.broadcasts[1].full
        last = federation.downlink.current("method", server)
        if server.replayable:
            replica = METHODS.get(config.method.name).server(config.method, config, make_model(config, classes=10))
            replica.adopt(start)
            for outcome in outcomes[1:]:
                index = outcome.round["round"]
                uploads = [(row["client"], executor.uploads[index, row["client"]]) for row in outcome.clients]
                relay = pack_relay(index, uploads)
                for damaged in (flipped_bit(relay), relay[:-1], b""):
                    with pytest.raises(PayloadError):
                        replica.replay(damaged)
                replica.replay(relay)
                assert replica.digest() == outcome.round["state_digest"]
            assert replica.broadcast() == last.full
        client, deltas = _client(config), [executor.broadcasts[2].delta, last.delta]
        if None not in deltas:
            state = client.receive(start)
            for delta in deltas:
                assert delta is not None
                state = client.receive_delta(delta, state)
            features, _ = executor.trainer.samples("test", np.arange(8))
            outputs = [client.evaluations(s, 2)["mean"]()(features) for s in (state, client.receive(last.full))]
            assert torch.equal(*outputs)

    def test_whoever_has_only_the_whole_state_has_what_deltas_lead_to(self, config: Config) -> None:
        executor, federation, _ = run_once(config)
        server = federation.servers["method"]
        full = Broadcast(server.broadcast())
        assert full.version == federation.downlink.current("method", server).version
        sums = [other.evaluate("method", 2, 1, full) for other in (executor, SerialExecutor(config))]
        assert sums[0] == sums[1]


def _client(config: Config) -> MethodClient[Any]:
    return METHODS.get(config.method.name).client(config.method, config, make_model(config, classes=10))
