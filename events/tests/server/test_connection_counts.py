"""The counts of connections that the server's processes share."""

import pytest

from tracking_api.server.connection_counts import shared_counts


@pytest.mark.parametrize(
    ("counts", "busy", "behind"),
    [
        ([0, 0], (), [None, None]),
        ([1, 0], (), [1, None]),
        ([1, 0], (1,), [None]),
        ([7, 8, 9], (), [None, 0, 0]),
        ([7, 8, 10], (0,), [None, 1]),
        ([8, 9, 10], (), [None, None, 0]),
        ([800, 900, 901], (), [None, None, 0]),
        ([2, None], (), [None]),  # the other one takes none
        ([5], (), [None]),
    ],
)
def test_the_next_connection_is_left_to_who_has_an_eighth_less_and_is_not_busy(counts, busy, behind):
    shared = shared_counts(len(counts))
    for of_process, count in zip(shared, counts, strict=True):
        if count is not None:
            of_process.set(count)

    assert [
        shared[process].behind(busy)
        for process, count in enumerate(counts)
        if count is not None and process not in busy
    ] == behind


def test_one_that_ended_takes_none():
    one, other = shared_counts(2)
    one.set(3)
    other.set(0)
    assert one.behind() == 1

    other.reset()

    assert one.behind() is None
