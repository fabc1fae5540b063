"""The counts of connections that the server's processes share."""

import pytest

from tracking_api.server.connection_counts import shared_counts


@pytest.mark.parametrize(
    ("counts", "ahead"),
    [
        ([0, 0], [False, False]),
        ([1, 0], [True, False]),
        ([7, 8, 9], [False, True, True]),
        ([8, 9, 10], [False, False, True]),
        ([800, 900, 901], [False, False, True]),
        ([2, None], [False]),  # the other one takes none
        ([5], [False]),
    ],
)
def test_one_is_ahead_that_has_an_eighth_more_than_another(counts, ahead):
    shared = shared_counts(len(counts))
    for of_process, count in zip(shared, counts, strict=True):
        if count is not None:
            of_process.set(count)

    assert [
        of_process.is_ahead() for of_process, count in zip(shared, counts, strict=True) if count is not None
    ] == ahead


def test_one_that_ended_takes_none():
    one, other = shared_counts(2)
    one.set(3)
    other.set(0)
    assert one.is_ahead()

    other.reset()

    assert not one.is_ahead()
