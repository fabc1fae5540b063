"""How a server process shares its connections out among threads."""

import threading

import pytest

from events.tests.waiting import wait_until
from tracking_api.connection_pool import ConnectionPool


def test_the_one_used_last_is_used_next():
    pool = ConnectionPool("abc")
    taken = [pool.take(), pool.take()]
    for connection in taken:
        pool.give_back(connection)

    assert taken == ["c", "b"]
    assert [pool.take(), pool.count_free()] == ["b", 2]


@pytest.mark.parametrize("threads", [1, 5])
def test_who_waits_longest_is_next_even_where_another_comes_just_then(threads):
    pool, got, greedy = ConnectionPool("a"), [], []
    mine = pool.take()

    def work(number):
        connection = pool.take()
        got.append(number)
        pool.give_back(connection)

    waiting = [threading.Thread(target=work, args=[number], daemon=True) for number in range(threads)]
    for place, thread in enumerate(waiting):
        thread.start()
        wait_until(lambda place=place: len(pool._waiting) > place)
    pool.give_back(mine)
    greedy.append(pool.take())  # before any of them has woken up, as likely as not
    at_that_moment = list(got)
    for thread in waiting:
        thread.join(120)

    assert (greedy, at_that_moment, got) == (["a"], list(range(threads)), list(range(threads)))
    assert pool.count_free() == 0
