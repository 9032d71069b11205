"""Reading ahead: order, bounds, errors and an early end."""

import threading

import pytest

from faithface.perturb.prefetch import prefetch


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_results_come_in_order(ahead):
    assert list(prefetch(lambda i: i * i, range(7), ahead)) == [i * i for i in range(7)]


def test_the_next_item_is_loaded_while_this_one_is_in_use():
    loaded = [threading.Event() for _ in range(3)]

    def load(i):
        loaded[i].set()
        return i

    results = prefetch(load, range(3))
    assert next(results) == 0
    assert loaded[1].wait(timeout=5)
    results.close()


def test_no_more_than_one_result_lies_ready_and_items_are_read_lazily():
    taken = []

    def items():
        for i in range(100):
            taken.append(i)
            yield i

    results = prefetch(lambda i: i, items(), ahead=1)
    next(results)
    results.close()
    assert len(taken) <= 2


def test_an_error_is_raised_where_its_result_is_due():
    def load(i):
        if i == 1:
            raise OSError("truncated file")
        return i

    results = prefetch(load, range(3))
    assert next(results) == 0
    with pytest.raises(OSError, match="truncated"):
        next(results)
