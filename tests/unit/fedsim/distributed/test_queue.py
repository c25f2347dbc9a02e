"""The items that workers owe: each is taken once, whoever takes it."""

from hypothesis import given
from hypothesis import strategies as st

from fedsim.distributed._queue import Queue


@given(
    st.integers(1, 40),
    st.lists(st.integers(0, 12), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=30),
    st.booleans(),
    st.booleans(),
)
def test_every_item_is_taken_once_and_none_beyond_the_window(window, sizes, steps, shared, whole):
    numbers = iter(range(sum(sizes)))
    owed = [[next(numbers) for _ in range(size)] for size in sizes]
    queue = Queue(owed, shared=shared, whole=whole)
    queue.window = window
    done = []

    def take(worker):
        items = queue.take(worker)
        first = min(set(range(sum(sizes))) - set(done), default=0)
        assert all(item < first + window for item in items)
        assert shared or set(items) <= set(owed[worker])
        return items

    def give(items):
        done.extend(items)
        for item in items:
            queue.done(item)

    for worker, dies in steps:
        worker %= len(sizes)
        items = take(worker)
        kept = items[: len(items) // 2] if dies else items
        give(kept)
        queue.put_back(worker, items[len(kept) :])
    while queue:
        taken = [take(worker) for worker in range(len(sizes))]
        assert any(taken)  # whoever is idle can take the item that others wait for
        for items in taken:
            give(items)
    assert sorted(done) == list(range(sum(sizes)))


def test_a_worker_takes_half_of_its_own_and_then_of_who_has_most():
    queue = Queue([[0, 1, 2], [3, 4, 5, 6, 7]], shared=True, whole=False)
    assert [queue.take(0) for _ in range(5)] == [[0, 1], [2], [3, 4, 5], [6], [7]]
    whole = Queue([[0, 1, 2], [3]], shared=True, whole=True)
    assert [whole.take(0), whole.take(0), whole.take(1)] == [[0, 1, 2], [3], []]


def test_the_largest_come_first_wherever_they_are():
    sizes = [5, 1, 9, 2, 7, 7, 3, 8]
    queue = Queue([[0, 1, 2, 3], [4, 5, 6, 7]], shared=True, whole=False, sizes=sizes)
    assert [queue.take(0) for _ in range(4)] == [[2, 0], [3], [1], [7, 4]]
    queue.window = 6  # of the first one that is not done, which is 0
    assert queue.take(1) == [5]
    assert queue.take(1) == []
    for item in (0, 1, 2):
        queue.done(item)
    assert queue.take(1) == [6]
