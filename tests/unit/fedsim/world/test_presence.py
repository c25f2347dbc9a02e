"""Who is there, and who is asked."""

import math

import numpy as np
import pandas as pd
import pytest

import fedsim
from fedsim.settings import WorldSettings
from fedsim.world import Cohorts, Daily, Traces, make_presence

STAYS = pd.DataFrame({"client": [2, 0, 0], "start": [5.0, 0.0, 60.0], "end": [100.0, 10.0, 80.0]})


def test_stays_of_a_table_repeat(written):
    traces = Traces(written(STAYS), 3)
    for day in (0, 100, 7_000):
        # The end of the stay, or the same second where the client is away.
        assert [traces.until(0, day + now) - day for now in (0, 9, 10, 59, 60, 79, 80)] == [10, 10, 10, 59, 80, 80, 80]
        assert traces.until(1, day + 7) - day == 7  # never there
        assert [traces.until(2, day + now) - day for now in (4, 5, 99)] == [4, 100, 100]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"client": [3, 0, 0]}, "other clients, or none, allowed: 0 to 2"),
        ({"client": [-1, 0, 0]}, "other clients"),
        ({"start": [5.0, 0.0, 9.0]}, "overlaps another"),
        ({"end": [5.0, 10.0, 80.0]}, "a stay that ends before it starts"),
        ({"end": [math.nan, 10.0, 80.0]}, "a value of end"),
        (None, "allowed: also end"),
    ],
)
def test_a_table_of_stays_that_is_none_is_refused(tmp_path, change, message):
    table = STAYS.drop(columns="end") if change is None else STAYS.assign(**change)
    table.to_parquet(tmp_path / "stays.parquet")
    with pytest.raises(fedsim.ConfigError, match=rf"world.traces: found .*{message}"):
        Traces(f"{tmp_path}/stays.parquet", 3)


def test_each_client_is_there_for_its_share_of_every_day():
    daily, other = Daily(0.25, seed=0), Daily(0.25, seed=1)
    hours = []
    for client in range(200):
        times = np.arange(0, 86_400, 60.0)
        there = np.array([daily.until(client, now) > now for now in times])
        assert there.mean() == pytest.approx(0.25, abs=0.01)
        now = times[there][0]
        end = daily.until(client, now)
        assert daily.until(client, end - 1) == pytest.approx(end)
        assert daily.until(client, end + 1) == end + 1
        assert daily.until(client, now + 86_400) == pytest.approx(end + 86_400)
        hours.append(end % 86_400)
    assert np.histogram(hours, 4, (0, 86_400))[0].min() > 30  # all around the clock
    assert any(daily.until(client, 0) != other.until(client, 0) for client in range(20))
    assert make_presence(WorldSettings(), 5, 0).until(4, 1e9) == make_presence(ALWAYS, 5, 0).until(4, 1e9) == math.inf


ALWAYS = WorldSettings(profile="lte", availability=1.0)


def test_a_cohort_is_drawn_uniformly_of_those_who_are_there():
    cohorts = Cohorts(0, 40)
    there = set(range(0, 40, 4))
    counts = np.zeros(40)
    for index in range(3000):
        found = cohorts.draw(index, 3, there.__contains__)
        assert len(set(found)) == 3
        assert found == sorted(found)
        counts[found] += 1
    assert set(np.flatnonzero(counts)) == there
    assert np.abs(counts[sorted(there)] / 3000 - 0.3).max() < 0.035  # four standard deviations
    assert cohorts.draw(1, 20, there.__contains__) == sorted(there)  # all of them
    assert cohorts.draw(1, 3) != cohorts.draw(1, 3, attempt=1)


def test_a_weighted_draw_follows_the_weights():
    weights = np.array([1.0, 1.0, 2.0, 4.0])
    counts = np.bincount([Cohorts(index, 4, weights).draw(1, 1)[0] for index in range(8000)], minlength=4)
    assert np.abs(counts / 8000 - weights / 8).max() < 0.023
    assert Cohorts(0, 4, weights).draw(1, 4) == [0, 1, 2, 3]


def test_only_those_who_are_looked_at_cost_anything():
    looked = []
    found = Cohorts(0, 10**6).draw(3, 10, lambda client: looked.append(client) or client % 4 == 0)
    assert len(found) == 10
    assert len(looked) < 500
