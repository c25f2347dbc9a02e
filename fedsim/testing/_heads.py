"""The contract of what fits the classifier head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from deltamask import PayloadError
from fedsim.config import Config
from fedsim.engine import Federation, SerialExecutor, make_model
from fedsim.heads import HEADS, Head
from fedsim.testing._experiments import (
    SmallExperiments,
    flipped_bit,
    run_once,
    run_rounds,
    small_config,
    without_times,
)
from fedsim.testing._members import check_named, name_of, overrides_of


class HeadContract(SmallExperiments):
    """The contract of every head, in round 0 of four clients on the digits and two rounds of a method after it.

    It is fitted in round 0 from the bytes that clients send, the same for the same seed, frozen afterwards, survives a
    restart, and damaged messages raise the typed error::

        class TestPrototypes(HeadContract):
            head = "my_heads:Prototypes"
            accuracy = 0.8

    Override the fixture :meth:`overrides` for several variants of one head.
    """

    #: The head: its name, ``package.module:Class`` or the class.
    head: ClassVar[str | type[Head] | None] = None
    #: Keys of its group.
    settings: ClassVar[Mapping[str, Any]] = {}
    #: ``"key=value"`` of other groups, such as ``"method.name=fedavg"``.
    others: ClassVar[Sequence[str]] = ()
    #: Accuracy that it has at least after round 0.
    accuracy: ClassVar[float] = 0.0

    @pytest.fixture
    def overrides(self) -> list[str]:
        """Overrides that select the head, as ``"key=value"``."""
        return [*overrides_of("head", name_of(self.head, HEADS, "head"), self.settings), *self.others]

    @pytest.fixture
    def config(self, folder: Path, overrides: list[str]) -> Config:
        """The experiment that the tests look at."""
        return small_config(folder, *overrides)

    def test_it_has_a_name_and_a_line_for_listings(self, config: Config) -> None:
        check_named(HEADS.get(config.head.name))

    def test_it_is_fitted_in_round_0_from_bytes_and_then_trained_under(self, config: Config) -> None:
        executor, _, outcomes = run_once(config)
        first = outcomes[0].round
        assert first["accuracy"] >= self.accuracy
        sizes = [len(executor.uploads[0, client]) for client in range(4)]
        assert [row["payload_bytes"] for row in outcomes[0].clients] == sizes
        assert first["uplink_bytes"] == sum(sizes)
        assert {row["downlink_bytes"] for row in outcomes[0].clients} == {len(executor.broadcasts[0].full)}
        assert len(executor.broadcasts[0].full) < 100  # an untrained head is known
        assert outcomes[2].round["loss"] < first["loss"] + 0.1

    def test_it_is_deterministic(self, config: Config) -> None:
        first, second = run_once(config)[2], run_rounds(config)[2]
        assert [without_times(o.round) for o in first] == [without_times(o.round) for o in second]

    def test_it_is_frozen_after_its_round(self, config: Config) -> None:
        federation = Federation(config, SerialExecutor(config))
        federation.run_round()
        fitted = federation.model.head_state()
        assert (fitted == {}) == HEADS.get(config.head.name).joint
        federation.run_round()
        assert all(np.array_equal(fitted[name], array) for name, array in federation.model.head_state().items())

    def test_a_restored_state_has_the_same_future(self, config: Config) -> None:
        executor, _, outcomes = run_once(config)
        other = Federation(config, executor)
        other.run_round()
        restored = Federation(config, executor)
        restored.restore({name: array.copy() for name, array in other.state().items()})
        assert restored.next_round == 1
        assert without_times(restored.run_round().round) == without_times(outcomes[1].round)

    def test_corrupt_uploads_and_broadcasts_raise_the_typed_error(self, config: Config) -> None:
        executor, federation, _ = run_once(config)
        upload = executor.content(0, 0)
        broadcast = executor.broadcasts[0].full
        client = HEADS.get(config.head.name).client(config.head, config, make_model(config, classes=10))
        for damaged in (flipped_bit(upload), upload[:-1], b""):
            with pytest.raises(PayloadError):
                federation.servers["head"].decode(0, 0, damaged)
        for damaged in (flipped_bit(broadcast), broadcast[:-1], b""):
            with pytest.raises(PayloadError):
                client.receive(damaged)
