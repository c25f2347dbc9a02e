"""The items that workers owe: each is taken once, whoever takes it."""

from hypothesis import given
from hypothesis import strategies as st

from fedsim.distributed._queue import Queue


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=30),
    st.booleans(),
    st.booleans(),
)
def test_every_item_is_taken_once(sizes, steps, shared, whole):
    numbers = iter(range(sum(sizes)))
    owed = [[next(numbers) for _ in range(size)] for size in sizes]
    queue = Queue(owed, shared=shared, whole=whole)
    done = []
    for worker, dies in steps:
        worker %= len(sizes)
        items = queue.take(worker)
        assert shared or set(items) <= set(owed[worker])
        kept = items[: len(items) // 2] if dies else items
        done += kept
        queue.put_back(worker, items[len(kept) :])
    for worker in range(len(sizes)):
        while items := queue.take(worker):
            done += items
    assert sorted(done) == list(range(sum(sizes)))


def test_a_worker_takes_half_of_its_own_and_then_of_who_has_most():
    queue = Queue([[0, 1, 2], [3, 4, 5, 6, 7]], shared=True, whole=False)
    assert [queue.take(0) for _ in range(5)] == [[0, 1], [2], [5, 6, 7], [4], [3]]
    whole = Queue([[0, 1, 2], [3]], shared=True, whole=True)
    assert [whole.take(0), whole.take(0), whole.take(1)] == [[0, 1, 2], [3], []]
