"""Every head keeps to the contract."""

import pytest

from fedsim.heads import HEADS
from fedsim.testing import HeadContract, run_rounds

#: Accuracy on digits by heads that see them; the others start from a guess, and their clients send empty frames.
ACCURACY = {"linear-probe": 0.8, "fit": 0.9, "ridge": 0.9}
KEYS = {"linear-probe": ["head.epochs=20"]}


@pytest.mark.parametrize("head_name", [head.name for head in HEADS], scope="class")
class TestHeads(HeadContract):
    @pytest.fixture
    def overrides(self, head_name):
        return [f"head.name={head_name}", *KEYS.get(head_name, [])]


@pytest.mark.parametrize("head", [head.name for head in HEADS])
def test_heads_that_see_the_data_are_good_and_the_others_cost_nothing(small_config, head):
    first = run_rounds(small_config(f"head.name={head}", *KEYS.get(head, []), "rounds=1"))[2][0].round
    assert first["accuracy"] >= ACCURACY.get(head, 0)
    assert (first["uplink_bytes"] > 4 * 1000) == (head in ACCURACY)


@pytest.mark.parametrize("head", ACCURACY)
def test_a_head_that_is_right_on_few_validation_samples_is_not_sure_of_everything(small_config, head):
    few = ("data.train_samples=200", "data.validation=0.1", "rounds=1")  # 20 of them
    first = run_rounds(small_config(f"head.name={head}", *KEYS.get(head, []), *few))[2][0].round
    assert first["validation_accuracy"] > 0.9
    assert first["loss"] < 0.5


def test_all_clients_may_fit_the_head_where_few_take_part_in_a_round(small_config):
    few = ("partition.clients=8", "participation=0.25", "rounds=2")
    outcomes = run_rounds(small_config(*few, "head.participation=1"))[2]
    assert [outcome.round["participants"] for outcome in outcomes] == [8, 2, 2]
    assert [outcome.round["participants"] for outcome in run_rounds(small_config(*few))[2]] == [2, 2, 2]
